"""Inputs of a task function of the app's own, and what is not said of a remote task's."""

import asyncio
import inspect
import json
from typing import Any

import flyte
import flyte._internal.runtime.convert as flyte_convert
import pytest
from flyte.models import NativeInterface
from flyte.types import TypeEngine
from flyte.types._type_engine import SimpleTransformer
from flyteidl2.core.literals_pb2 import Literal
from flyteidl2.core.types_pb2 import LiteralType, SimpleType

from passthrough.values import InvalidInputs

from .test_hostile_literals import TYPES, interface_of
from .test_literals import Leveled

pytestmark = pytest.mark.usefixtures("_safe_sdk")


def of_a_function(**types: Any) -> NativeInterface:
    """Return the interface of a task function of the app's own."""
    return NativeInterface({k: (kind, inspect.Parameter.empty) for k, kind in types.items()}, {})


def converted(interface: NativeInterface, **values: Any) -> dict[str, Literal]:
    """Convert inputs as ``flyte.run`` does."""
    convert = flyte_convert.convert_from_native_to_inputs_binding_artifacts
    made = asyncio.run(convert(interface, (), values))
    return {each.name: each.value for each in made.proto_inputs.literals}


def errors_of(interface: NativeInterface, **values: Any) -> list[Any]:
    """Return the locations of the errors in inputs."""
    with pytest.raises(InvalidInputs) as caught:
        converted(interface, **values)
    return [location for location, _ in caught.value.errors]


class Custom:
    """A class that Flyte can only pickle."""


def test_a_bug_in_the_apps_own_code_is_none_of_the_callers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(_: Any) -> Any:
        raise KeyError

    kind = LiteralType(simple=SimpleType.STRING)
    transformer = SimpleTransformer("broken", Custom, kind, broken, broken)
    monkeypatch.setitem(TypeEngine._REGISTRY, Custom, transformer)
    with pytest.raises(KeyError):
        converted(of_a_function(x=Custom), x=Custom())


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (int, {"x": "1"}),
        (int, {}),
        (Leveled, {"x": 1}),
        (dict, {"x": 2**70}),
        (dict, {"x": json.loads("[" * 100 + "]" * 100)}),
    ],
)
def test_wrong_inputs_of_a_task_function_are_invalid(kind: Any, wrong: dict[str, Any]) -> None:
    assert errors_of(of_a_function(x=kind), **wrong)


def test_an_unknown_input_of_a_task_function_is_refused_by_name() -> None:
    assert errors_of(of_a_function(x=int), x=1, y=1) == [("y",)]


def test_the_inputs_of_a_remote_task_must_be_named() -> None:
    bind = flyte_convert.convert_from_native_to_inputs_binding_artifacts
    with pytest.raises(TypeError, match="name the inputs of a remote task"):
        asyncio.run(bind(flyte.types.guess_interface(interface_of(x=TYPES["anything"])), (1,), {}))


def test_large_pickles_are_not_written_to_the_disk() -> None:
    sent = converted(of_a_function(x=bytes), x=bytes(2**20))["x"]
    assert len(sent.scalar.binary.value) > 2**20


def test_an_interface_does_not_write_out_what_a_task_declares() -> None:
    large = flyte.types.guess_interface(interface_of(x=TYPES["an enum of 10,000"]))
    assert len(repr(large)) < 1_000
