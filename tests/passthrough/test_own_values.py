"""Inputs that are not only JSON: values of the app's own, artifacts, and what Flyte pickles."""

import asyncio
import dataclasses
import datetime as dt
import enum
import inspect
import math
import pickle
import traceback
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import UTC, datetime
from typing import Any, Literal, NewType

import flyte
import msgpack
import pytest
from flyte import remote
from flyte._internal.runtime.convert import convert_from_native_to_inputs_binding_artifacts
from flyte.io import Dir, File
from flyte.models import NativeInterface
from flyte.types import TypeEngine, TypeTransformerFailedError, guess_interface
from flyteidl2.artifact.artifact_pb2 import Artifact as ArtifactMessage
from flyteidl2.core import literals_pb2
from flyteidl2.core.interface_pb2 import Parameter
from flyteidl2.core.types_pb2 import LiteralType, SimpleType
from flyteidl2.task.common_pb2 import NamedParameter
from pydantic import BaseModel

from passthrough.calls.errors import NotForManyCallersError
from passthrough.values import InvalidInputs, inputs_schema, to_json

from .literals import interface_of
from .test_hostile_literals import (
    INTEGER,
    PICKLE,
    binary,
    blob,
    generic,
    nested,
    offloaded,
    only_data_and_little_work,
)

pytestmark = pytest.mark.usefixtures("_safe_sdk")
MOMENT = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
FILE = File[Any].from_existing_remote("s3://bucket/key")
UserId = NewType("UserId", int)


class Own:
    """A class that Flyte can only pickle."""


class Swapped(enum.Enum):
    """Its names are the values of other members."""

    A = "B"
    B = "A"


class Mode(enum.StrEnum):
    FAST = "fast"


class Flags(enum.Flag):
    ON = 1


@dataclasses.dataclass
class Size:
    width: int
    height: int = 2


class Place(BaseModel):
    name: str


def of_a_function(**types: Any) -> NativeInterface:
    """Return the interface of a task function of the app's own."""
    return NativeInterface(
        {name: (kind, inspect.Parameter.empty) for name, kind in types.items()}, {}
    )


def of_a_remote_task(**types: Any) -> NativeInterface:
    """Return the interface of a task that Flyte describes."""
    kinds = {name: TypeEngine.to_literal_type(kind) for name, kind in types.items()}
    return guess_interface(interface_of(**kinds))


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
    interface = of_a_function(a=int, b=Literal["x"] | None, c=list[bytes], d=Own, e=int)
    wrong = {"a": "1", "b": "y", "c": ["ok", 5], "d": {"x": 1}, "f": 1}
    places = errors_of(interface, **wrong)
    assert {location[0] for location in places} == {"a", "b", "c", "d", "e", "f"}
    assert ("c", 1) in places
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


@BOTH
@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (int, MOMENT),
        (str, MOMENT),
        (str | None, MOMENT.date()),
        (str, Swapped.A),
        (dict, Swapped.A),
        (Size, {"width": Swapped.A}),
        (Size, Place(name="x")),
        (Size, Size(2**70)),
        (Place, Size(1)),
        (int, Flags.ON),
        (dict, Own()),
        (File, MOMENT),
        (float, object),
    ],
)
def test_a_value_of_the_apps_own_that_does_not_fit_is_invalid(
    of: Of, kind: Any, value: Any
) -> None:
    assert {location[0] for location in errors_of(of(x=kind, y=int), x=value, y=1)} == {"x"}


@BOTH
@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (dt.date | dt.datetime | str, MOMENT),
        (dt.date | dt.datetime | str, MOMENT.date()),
        (Swapped | str | None, Swapped.A),
        (Swapped, Swapped.A),
        (str, Mode.FAST),
        (list[Mode], [Mode.FAST]),
        (Size | None, Size(1)),
        (dict[str, Place], {"a": Place(name="x")}),
        (tuple[int, Swapped], {"item_0": 1, "item_1": "A"}),
        (Dir, Dir[Any].from_existing_remote("s3://bucket/folder")),
        (float, math.nan),
    ],
)
def test_a_value_of_the_apps_own_arrives_as_it_is(of: Of, kind: Any, value: Any) -> None:
    received = read(converted(of(x=kind), x=value)["x"], kind)
    expected: Any = (1, Swapped.A) if kind == tuple[int, Swapped] else value
    assert received == expected or (math.isnan(received) and math.isnan(expected))


# What the app asks for by type


def read(literal: literals_pb2.Literal, kind: Any, run: Callable[..., Any] = asyncio.run) -> Any:
    """Convert a literal to a type, as ``typed_outputs`` does."""
    return run(
        TypeEngine.literal_map_to_kwargs(
            literals_pb2.LiteralMap(literals={"o0": literal}), python_types={"o0": kind}
        )
    )["o0"]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Swapped, Swapped.A),
        (File, FILE),
        (tuple[int, str], (1, "a")),
        (list[Size | None], [Size(1), None]),
        (dict[str, Swapped], {"x": Swapped.B}),
        (dt.date, MOMENT.date()),
        (dt.timedelta, dt.timedelta(microseconds=1)),
        (int, 2**62 + 1),
        (Place, Place(name="x")),
    ],
)
def test_an_output_becomes_what_the_endpoint_asks_for(kind: Any, value: Any) -> None:
    literal_type = TypeEngine.to_literal_type(kind)
    literal = asyncio.run(TypeEngine.to_literal(value, kind, literal_type))
    assert read(literal, kind) == value
    bound = asyncio.run(artifact(literal_type, literal).coerce_to_literal(kind))
    assert read(bound, kind) == value


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Any, binary(PICKLE, "")),
        (Own, binary(PICKLE, "msgpack")),
        (Own | None, binary(PICKLE, "")),
        (dict, generic({"pickle_file": "/etc/passwd"}, format="pickle")),
        (list[int], offloaded("file:///etc/passwd")),
        (File, blob("file:///etc/passwd", "PythonPickle")),
    ],
)
def test_nothing_is_loaded_or_opened_for_a_type_that_the_endpoint_asks_for(
    kind: Any, value: Any
) -> None:
    refused = suppress(TypeTransformerFailedError, NotForManyCallersError)
    with closing(asyncio.new_event_loop()) as loop:
        read(INTEGER, int, loop.run_until_complete)  # imports what it needs
        with only_data_and_little_work(), refused:
            found = read(value, kind, loop.run_until_complete)
            assert isinstance(found, dict | File)  # a reference


def test_an_error_about_a_stored_value_is_short() -> None:
    wrong = binary(msgpack.packb({"name": ["secret"] * 5_000}))
    with pytest.raises(TypeTransformerFailedError, match="o0: not a ") as caught:
        read(wrong, list[Place] | Place)
    assert len("".join(traceback.format_exception(caught.value))) < 3_000


def test_counts_are_checked_before_the_sdk_reads_all() -> None:
    kind = LiteralType(simple=SimpleType.INTEGER)
    task = interface_of(**{f"x{number}": kind for number in range(100_000)})
    default = NamedParameter(parameter=Parameter(default=INTEGER))
    defaults = [NamedParameter(name=f"x{n}", parameter=default.parameter) for n in range(100_000)]
    with only_data_and_little_work():
        schema = inputs_schema(task, defaults)
        guessed = flyte.types.guess_interface(task, defaults)
    assert schema["not"] == guessed.json_schema["not"] == {}
    assert errors_of(guessed, **dict.fromkeys(guessed.inputs, 1)) == [()]


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
    wrong = errors_of(of(x=int, y=list[int], z=dict), x=hostile, y=[1, hostile], z=hostile)
    assert [location[0] for location in wrong] == ["x", "y", "z"]
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
