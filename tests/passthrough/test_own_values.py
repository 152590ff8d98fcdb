"""Inputs that are not only JSON: values of the app's own, artifacts, and what Flyte pickles."""

import asyncio
import inspect
import pickle
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal, NewType

import pytest
from flyte import remote
from flyte._internal.runtime.convert import convert_from_native_to_inputs_binding_artifacts
from flyte.io import File
from flyte.models import NativeInterface
from flyte.types import TypeEngine, guess_interface
from flyteidl2.artifact.artifact_pb2 import Artifact as ArtifactMessage
from flyteidl2.core import literals_pb2
from flyteidl2.core.interface_pb2 import TypedInterface, Variable, VariableEntry, VariableMap
from flyteidl2.core.types_pb2 import LiteralType, SimpleType

from passthrough.values import InvalidInputs, to_json

from .test_hostile_literals import (
    INTEGER,
    PICKLE,
    binary,
    blob,
    nested,
    offloaded,
    only_data_and_little_work,
)

pytestmark = pytest.mark.usefixtures("_safe_sdk")
MOMENT = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
FILE = File[Any].from_existing_remote("s3://bucket/key")
UserId = NewType("UserId", int)


def of_a_function(**types: Any) -> NativeInterface:
    """Return the interface of a task function of the app's own."""
    return NativeInterface(
        {name: (kind, inspect.Parameter.empty) for name, kind in types.items()}, {}
    )


def of_a_remote_task(**types: Any) -> NativeInterface:
    """Return the interface of a task that Flyte describes."""
    entries = [
        VariableEntry(key=name, value=Variable(type=TypeEngine.to_literal_type(kind)))
        for name, kind in types.items()
    ]
    return guess_interface(TypedInterface(inputs=VariableMap(variables=entries)))


BOTH = pytest.mark.parametrize("of", [of_a_function, of_a_remote_task])
Of = Callable[..., NativeInterface]


def converted(interface: NativeInterface, **values: Any) -> dict[str, literals_pb2.Literal]:
    """Convert inputs as ``flyte.run`` does."""
    made = asyncio.run(convert_from_native_to_inputs_binding_artifacts(interface, (), values))
    return {each.name: each.value for each in made.proto_inputs.literals}


def errors_of(interface: NativeInterface, **values: Any) -> list[Any]:
    """Return the locations of the errors in inputs."""
    with pytest.raises(InvalidInputs) as caught:
        converted(interface, **values)
    return [location for location, _ in caught.value.errors]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Any, 1),
        (Any, {"a": [None, 1.5, True]}),
        (Any, "long" * 10_000),
        (inspect.Parameter.empty, "text"),
        (object, [1]),
        (list, [1, "a"]),
        (list[Any], [1, "a"]),
        (dict[str, Any], {"a": {"b": 1}}),
        (Literal["a", "b"] | None, "a"),
        (Literal[1, 2], 2),
        (UserId, 5),
        (bytes, b"long" * 10_000),
        (list[bytes], [b"a"]),
    ],
)
def test_what_flyte_pickles_for_a_task_function_is_sent_as_by_the_sdk(
    kind: Any, value: Any
) -> None:
    expected = asyncio.run(TypeEngine.to_literal(value, kind, TypeEngine.to_literal_type(kind)))
    assert converted(of_a_function(x=kind), x=value)["x"] == expected


@pytest.mark.parametrize(("kind", "value"), [(bytes, b"ab"), (set[int], {1}), (UserId, 5)])
def test_json_for_a_pickled_parameter_becomes_its_type(kind: Any, value: Any) -> None:
    given = {bytes: "ab", set[int]: [1], UserId: 5}[kind]
    sent = converted(of_a_function(x=kind), x=given)["x"]
    assert pickle.loads(sent.scalar.binary.value) == value


def test_wrong_json_for_pickled_parameters_is_reported_with_everything_else() -> None:
    interface = of_a_function(a=int, b=Literal["x"] | None, c=list[bytes], d=Any, e=Any)
    deep: Any = 1
    for _ in range(40):
        deep = [deep]
    wrong = {"a": "1", "b": "y", "c": ["ok", 5], "d": deep, "e": "\ud800", "f": 1}
    places = {location[0] for location in errors_of(interface, **wrong)}
    assert places == {"a", "b", "c", "d", "e", "f"}
    assert ("c", 1) in errors_of(interface, **wrong)
    assert errors_of(of_a_function(x=Any), x=None) == [("x",)]


def test_large_pickles_are_not_written_to_the_disk() -> None:
    interface = of_a_function(x=bytes)
    loop = asyncio.new_event_loop()
    convert = convert_from_native_to_inputs_binding_artifacts
    loop.run_until_complete(convert(interface, (), {"x": b""}))  # imports what it needs
    with only_data_and_little_work():
        loop.run_until_complete(convert(interface, (), {"x": bytes(2**20)}))
    loop.close()


@BOTH
def test_json_among_values_of_the_apps_own_is_checked(of: Of) -> None:
    moments = of(x=list[datetime], y=dict[str, File])
    text = "2026-02-03T04:05:06Z"
    sent = converted(moments, x=[MOMENT, text], y={"a": FILE, "b": "s3://bucket/key"})
    assert sent["x"].collection.literals[0] == sent["x"].collection.literals[1]
    assert sent["y"].map.literals["a"].scalar == sent["y"].map.literals["b"].scalar
    assert errors_of(moments, x=[MOMENT, 5], y={}) == [("x", 1)]
    assert errors_of(moments, x=[], y={"a": FILE, "b": "no URI"}) == [("y", "b")]
    assert errors_of(of(x=int), x=MOMENT) == [("x",)]


def artifact(kind: LiteralType, value: literals_pb2.Literal) -> remote.Artifact:
    """Return an artifact as Flyte would, with any type and any value."""
    made = remote.Artifact(ArtifactMessage())
    made.pb2.artifact_id.name.name = "artifact"
    made.pb2.artifact_id.version = "v1"
    made.pb2.spec.type.CopyFrom(kind)
    made.pb2.spec.value.CopyFrom(value)
    return made


AN_INTEGER = LiteralType(simple=SimpleType.INTEGER)


@BOTH
@pytest.mark.parametrize(
    "value",
    [
        binary(PICKLE, ""),
        blob("s3://bucket/key", "PythonPickle"),
        nested(INTEGER, 1),
        nested(INTEGER, 40),
        offloaded("file:///etc/passwd"),
        literals_pb2.Literal(),
    ],
)
def test_a_value_that_is_not_of_its_artifacts_type_is_refused(of: Of, value: Any) -> None:
    hostile = artifact(AN_INTEGER, value)
    assert errors_of(of(x=int, y=list[int]), x=hostile, y=[1, hostile]) == [("x",), ("y", 1)]
    assert errors_of(of(x=int | None, y=list[str]), x=hostile, y=[hostile])


@BOTH
def test_an_artifact_keeps_its_identity_and_may_be_next_to_other_values(of: Of) -> None:
    number = artifact(AN_INTEGER, INTEGER)
    file = artifact(LiteralType(blob={}), blob("s3://bucket/key"))
    untyped = artifact(LiteralType(), INTEGER)
    types: dict[str, Any] = {"x": int | None, "y": int, "z": list[File], "f": File | None}
    sent = converted(of(**types), x=number, y=untyped, z=[file, FILE], f=file)
    assert [to_json([("", sent[name])])[""] for name in ("x", "y")] == [1, 1]
    for bound in (sent["x"], sent["y"], sent["f"], sent["z"].collection.literals[0]):
        assert bound.artifact_id.version == "v1"


@BOTH
def test_an_artifact_that_is_a_pickle_is_passed_on_unopened(of: Of) -> None:
    kind = TypeEngine.to_literal_type(Any)
    with only_data_and_little_work():
        pickled = artifact(kind, binary(PICKLE, ""))
    sent = converted(of(x=Any), x=pickled)
    assert sent["x"].scalar.binary.value == PICKLE
    assert errors_of(of(x=Any), x=artifact(kind, INTEGER)) == [("x",)]


def test_an_object_for_a_pickled_input_of_a_remote_task_is_pickled() -> None:
    sent = converted(of_a_remote_task(x=bytes), x=b"content")
    assert pickle.loads(sent["x"].scalar.binary.value) == b"content"
