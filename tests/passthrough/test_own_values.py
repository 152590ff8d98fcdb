"""Inputs that are not only JSON: values of the app's own."""

import asyncio
import dataclasses
import datetime as dt
import enum
import inspect
import json
import math
import os
from typing import Any

import flyte
import flyte._internal.runtime.convert as flyte_convert
import pytest
from connectrpc.errors import ConnectError
from flyte import remote
from flyte.io import Dir, File
from flyte.models import NativeInterface
from flyte.types import TypeEngine
from flyte.types._type_engine import SimpleTransformer
from flyteidl2.artifact.artifact_pb2 import Artifact as ArtifactMessage
from flyteidl2.core.literals_pb2 import Literal
from flyteidl2.core.types_pb2 import LiteralType, SimpleType

from passthrough.values import InvalidInputs

from .support import as_a_task_reads
from .test_hostile_literals import INTEGER, TYPES, interface_of
from .test_literals import Level, Leveled, Parts, Point, Swapped

pytestmark = pytest.mark.usefixtures("_safe_sdk")
MOMENT = dt.datetime(2026, 2, 3, 4, 5, 6, tzinfo=dt.UTC)
INT = LiteralType(simple=SimpleType.INTEGER)
FILE = File[Any].from_existing_remote("s3://bucket/key")


class Custom:
    """A class that Flyte can only pickle."""


class Mode(enum.StrEnum):
    FAST = "fast"


@dataclasses.dataclass
class Anything:
    of: Any


def of_a_function(**types: Any) -> NativeInterface:
    """Return the interface of a task function of the app's own."""
    return NativeInterface({k: (kind, inspect.Parameter.empty) for k, kind in types.items()}, {})


def of_a_remote_task(**types: Any) -> NativeInterface:
    """Return the interface of a task that Flyte describes."""
    kinds = {name: TypeEngine.to_literal_type(kind) for name, kind in types.items()}
    return flyte.types.guess_interface(interface_of(**kinds))


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


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (dt.timedelta, dt.timedelta(microseconds=1)),
        (dt.datetime | str, MOMENT),
        (Swapped | str | None, Swapped.A),
        (list[Mode], [Mode.FAST]),
        (str, Mode.FAST),
        (Point | None, Point(1)),
        (Parts, Parts(Point(1), Level.LOW, (1, "p"), "a", {1: "one"})),
        (dict[str, Leveled], {"a": Leveled(level=Level.LOW)}),
        (list[File], [FILE]),
        (Dir, Dir[Any].from_existing_remote("s3://bucket/folder")),
        (float, math.nan),
        (Anything, Anything([math.nan, 0.5, None])),
    ],
)
def test_a_value_of_the_apps_own_arrives_as_it_is(kind: Any, value: Any) -> None:
    received = as_a_task_reads(converted(of_a_remote_task(x=kind), x=value)["x"], kind)
    assert received == value or repr(received) == repr(value)  # NaN is not equal to itself


def test_json_among_values_of_the_apps_own_is_checked() -> None:
    task = of_a_remote_task(x=list[dt.datetime], y=dict[str, File])
    text = MOMENT.isoformat()
    sent = converted(task, x=[MOMENT, text], y={"a": FILE, "b": "s3://bucket/key"})
    assert sent["x"].collection.literals[0] == sent["x"].collection.literals[1]
    assert sent["y"].map.literals["a"].scalar == sent["y"].map.literals["b"].scalar
    assert errors_of(task, x=[MOMENT, 5], y={"a": FILE, "b": "no URI"}) == [("x", 1), ("y", "b")]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (int, MOMENT),
        (str, MOMENT),
        (str, Swapped.A),
        (dict, FILE),
        (Point, {"x": Swapped.A}),
        (Point, Point(2**70)),
        (Leveled, Point(1)),
        (dict, Custom()),
        (Anything, Anything({b"\xff": 1})),
        (dict, Anything({False: 1})),
        (dict, Anything({1: 1, "1": 2})),
        (float, object),
        (bytes, b"content"),
        (Any, 1),
        (int, remote.Artifact(ArtifactMessage(spec={"value": INTEGER}))),
    ],
)
def test_a_value_of_the_apps_own_that_does_not_fit_is_invalid(kind: Any, value: Any) -> None:
    wrong = errors_of(of_a_remote_task(x=kind, y=int), x=value, y=1)
    assert {location[0] for location in wrong} == {"x"}
    assert {type(part) for location in wrong for part in location} <= {str, int}


@pytest.mark.parametrize("of", [of_a_function, of_a_remote_task])
def test_a_bug_in_the_apps_own_code_is_none_of_the_callers(
    of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Any) -> Any:
        return os.environ["NOT_THERE"]

    task = of(x=str if of is of_a_remote_task else Custom)
    kind = LiteralType(simple=SimpleType.STRING)
    transformer = SimpleTransformer("broken", Custom, kind, broken, broken)
    monkeypatch.setitem(TypeEngine._REGISTRY, Custom, transformer)
    with pytest.raises(KeyError):
        converted(task, x=Custom())


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
        asyncio.run(bind(of_a_remote_task(x=int), (1,), {}))


def test_large_pickles_are_not_written_to_the_disk() -> None:
    sent = converted(of_a_function(x=bytes), x=bytes(2**20))["x"]
    assert len(sent.scalar.binary.value) > 2**20


def test_a_task_of_very_many_inputs_is_refused_before_the_sdk_reads_it() -> None:
    large = interface_of(**{f"x{number}": INT for number in range(501)})
    for guess in (flyte.types.guess_interface, flyte.types._interface.guess_interface):
        with pytest.raises(ConnectError, match="more than 500 inputs"):
            guess(large)


def test_an_interface_does_not_write_out_what_a_task_declares() -> None:
    large = flyte.types.guess_interface(interface_of(x=TYPES["an enum of 10,000"]))
    assert len(repr(large)) < 1_000
