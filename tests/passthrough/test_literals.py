"""Literals and JSON, compared with the SDK's own type engine on the same values."""

import asyncio
import datetime as dt
import decimal
import enum
import json
import math
import pathlib
import uuid
from dataclasses import dataclass, field
from pprint import pformat
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, TypedDict, Union

import pytest
from flyte.io import DataFrame, Dir, File
from flyte.types import TypeEngine
from flyteidl2.core import literals_pb2
from flyteidl2.core.interface_pb2 import Parameter, TypedInterface
from flyteidl2.core.types_pb2 import LiteralType
from flyteidl2.task.common_pb2 import NamedParameter
from google.protobuf import struct_pb2
from pydantic import BaseModel, Field

from passthrough.calls.types_and_storage import JsonTransformer, translate
from passthrough.values import InvalidInputs, inputs_schema, outputs_schema, to_json

from .literals import interface_of, kinds_of, to_literals


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@dataclass
class Point:
    x: int
    y: float = 2.0


@dataclass
class Circle:
    radius: float


@dataclass
class Square:
    side: float


@dataclass
class Everything:
    """Every kind of field of a dataclass; all are required, so that their order is known."""

    number: int
    ratio: float
    text: str
    yes: bool
    when: dt.datetime
    day: dt.date
    hour: dt.time
    took: dt.timedelta
    raw: bytes
    identity: uuid.UUID
    price: decimal.Decimal
    path: pathlib.Path
    color: Color
    level: Level
    point: Point
    points: list[Point]
    counts: dict[str, int]
    names: dict[int, str]
    maybe: int | None
    either: int | str | None
    pair: tuple[int, str]
    choice: Literal["a", "b"]
    anything: Any
    distinct: set[int]


class Swapped(enum.Enum):
    """Its names are the values of other members."""

    A = "B"
    B = "A"


@dataclass
class Painted:
    color: Color
    swapped: Swapped


class Wall(BaseModel):
    """The SDK lists an enum's names everywhere, but a dataclass in a model takes its values."""

    color: Color
    painted: Painted
    maybe: Color | None = None


@dataclass
class Texts:
    hour: str | dt.time
    day: dt.date | str
    identity: uuid.UUID | str
    took: str | dt.timedelta
    raw: bytes | str


@dataclass
class ByLevel:
    x: dict[Level, int]


@dataclass
class FloatOrText:
    value: float | str


class Money(BaseModel):
    amount: decimal.Decimal


class Price(BaseModel):
    value: float | str


class PointModel(BaseModel):
    x: int
    y: float = 2.0


class Tree(BaseModel):
    value: int
    children: list["Tree"]


class EverythingModel(BaseModel):
    number: int = Field(ge=1, le=10)
    ratio: float
    text: str
    yes: bool
    when: dt.datetime
    day: dt.date
    hour: dt.time
    took: dt.timedelta
    identity: uuid.UUID
    price: decimal.Decimal
    path: pathlib.Path
    color: Color
    level: Level
    point: PointModel
    points: list[PointModel]
    counts: dict[str, int]
    names: dict[int, str]
    maybe: int | None
    either: int | str | None
    pair: tuple[int, str]
    choice: Literal["a", "b"]
    anything: Any
    distinct: set[int]


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    tricks: list[str]


class Owner(BaseModel):
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]


class Pair(NamedTuple):
    left: int
    right: str


class Options(TypedDict):
    depth: int
    label: NotRequired[str]


@dataclass
class WithFiles:
    file: File
    folder: Dir
    table: DataFrame


@dataclass
class Defaults:
    """Defaults that a schema, all of whose numbers are floats, does not hold exactly."""

    name: str
    size: int = 1234567890123456789
    ratio: int | float = 1.0
    swapped: Swapped = Swapped.A
    tags: list[str] = field(default_factory=lambda: ["a"])


class DefaultsModel(BaseModel):
    name: str
    size: int = 1234567890123456789
    ratio: int | float = 1.0
    swapped: Swapped = Swapped.A


NOW = dt.datetime(2024, 1, 2, 3, 4, 5, 678000, tzinfo=dt.UTC)
SHARED: dict[str, Any] = {
    "number": 1,
    "ratio": 0.5,
    "text": "ñ<b>",
    "yes": True,
    "when": NOW,
    "day": NOW.date(),
    "hour": NOW.time(),
    "took": dt.timedelta(days=1, seconds=1.5),
    "identity": uuid.UUID(int=5),
    "price": decimal.Decimal("1.50"),
    "path": pathlib.PurePosixPath("/x"),
    "color": Color.RED,
    "level": Level.HIGH,
    "counts": {"a": 1},
    "names": {1: "one"},
    "maybe": None,
    "either": "e",
    "pair": (1, "p"),
    "choice": "b",
    "anything": [1, {"a": None}],
    "distinct": {3},
}
SHARED_JSON: dict[str, Any] = {
    "number": 1,
    "ratio": 0.5,
    "text": "ñ<b>",
    "yes": True,
    "when": "2024-01-02T03:04:05.678Z",
    "day": "2024-01-02",
    "hour": "03:04:05.678",
    "identity": "00000000000000000000000000000005",
    "price": "1.50",
    "path": "/x",
    "point": {"x": 1},
    "points": [{"x": 2, "y": 3}],
    "counts": {"a": 1},
    "names": {"1": "one"},
    "maybe": None,
    "either": "e",
    "pair": [1, "p"],
    "choice": "b",
    "anything": [1, {"a": None}],
    "distinct": [3],
}
# The order of the fields differs, so that the test of their order in the message is useful.
EVERYTHING = Everything(
    **SHARED,
    raw=b"\x00\xff",
    point=Point(1),
    points=[Point(2, 3.0)],
)
EVERYTHING_JSON = SHARED_JSON | {"raw": "AP8=", "color": "red", "level": 2, "took": 86401.5}
EVERYTHING_MODEL = EverythingModel(
    **SHARED | {"path": pathlib.Path("/x")},
    point=PointModel(x=1),
    points=[PointModel(x=2, y=3)],
)
EVERYTHING_MODEL_JSON = SHARED_JSON | {"color": "RED", "level": "HIGH", "took": "PT86401.5S"}

CASES: list[tuple[Any, Any, Any]] = [
    (int, 0, 0),
    (int, -(2**63), -(2**63)),
    (int, 7, 7.0),
    (float, 1.5, 1.5),
    (float, 1.0, 1),
    (float, math.inf, math.inf),
    (str, "", ""),
    (str, "ñ<b>\n", "ñ<b>\n"),
    (bool, False, False),
    (type(None), None, None),
    (dt.datetime, NOW, "2024-01-02T03:04:05.678Z"),
    (dt.datetime, NOW, "2024-01-02T04:04:05.678+01:00"),
    (dt.datetime, NOW.replace(tzinfo=None), "2024-01-02T03:04:05.678"),
    (dt.date, NOW.date(), "2024-01-02"),
    (dt.timedelta, dt.timedelta(seconds=-1.5), "-PT1.5S"),
    (dt.timedelta, dt.timedelta(days=1, hours=2), "P1DT2H"),
    (Color, Color.RED, "RED"),
    (Level, Level.HIGH, "HIGH"),
    (list[int], [1, 2], [1, 2]),
    (list[list[float]], [[1.0], []], [[1], []]),
    (dict[str, int], {"b": 1, "a": 2}, {"b": 1, "a": 2}),
    (dict[str, list[Color]], {"b": [Color.BLUE]}, {"b": ["BLUE"]}),
    (dict, {"z": [1.5, None, True], "a": {"b": "c"}}, {"z": [1.5, None, True], "a": {"b": "c"}}),
    (int | None, 3, 3),
    (int | None, None, None),
    (int | str | None, "s", "s"),
    (int | float, 1, 1),
    (int | float, 1.0, 1.0),
    (bool | int, True, True),
    (float | str, 1.0, 1),
    (dt.date | dt.datetime, NOW.date(), "2024-01-02"),
    (dt.date | dt.datetime, NOW, "2024-01-02T03:04:05.678Z"),
    (list[int | None], [1, None], [1, None]),
    (list[int] | dict[str, int], {"a": 1}, {"a": 1}),
    (Union[Circle, Square], Square(2.0), {"side": 2.0}),  # noqa: UP007
    (Point | None, Point(1), {"x": 1}),
    (list[Point | None], [None, Point(1, 0.5)], [None, {"x": 1, "y": 0.5}]),
    (PointModel | None, PointModel(x=1), {"x": 1}),
    (Annotated[int, Field(ge=1, description="some")], 3, 3),
    (Annotated[str, Field(max_length=3, pattern="^a")] | None, "a", "a"),
    (tuple[int, str], (1, "a"), {"item_0": 1, "item_1": "a"}),
    (Pair, Pair(1, "a"), {"left": 1, "right": "a"}),
    (Options, {"depth": 1}, {"depth": 1}),
    (Options, {"depth": 1, "label": "l"}, {"label": "l", "depth": 1}),
    (Point, Point(1), {"x": 1}),
    (Point, Point(1, 3.0), {"y": 3, "x": 1}),
    (Everything, EVERYTHING, EVERYTHING_JSON),
    (PointModel, PointModel(x=1), {"x": 1}),
    (Money, Money(amount=decimal.Decimal("0.1")), {"amount": 0.1}),
    (FloatOrText, FloatOrText(0.1 + 0.2), {"value": 0.1 + 0.2}),
    (EverythingModel, EVERYTHING_MODEL, EVERYTHING_MODEL_JSON),
    (
        Tree,
        Tree(value=1, children=[Tree(value=2, children=[])]),
        {"children": [{"value": 2, "children": []}], "value": 1},
    ),
    (
        Owner,
        Owner(pet=Dog(kind="dog", tricks=["sit"])),
        {"pet": {"kind": "dog", "tricks": ["sit"]}},
    ),
    (File, File(path="s3://b/k.csv"), "s3://b/k.csv"),
    (
        File,
        File(path="s3://b/k.csv", format="csv", hash="h"),
        {"kind": "file", "uri": "s3://b/k.csv", "format": "csv", "hash": "h"},
    ),
    (File | None, File(path="s3://b/k.csv"), "s3://b/k.csv"),
    (Dir, Dir(path="s3://b/d"), "s3://b/d"),
    (Defaults, Defaults("n"), {"name": "n"}),
    (DefaultsModel, DefaultsModel(name="n"), {"name": "n"}),
    (Money, Money(amount=decimal.Decimal(2**63 + 1)), {"amount": 2**63 + 1}),
    (Money, Money(amount=decimal.Decimal("0.1")), {"amount": "0.1"}),
    (
        Wall,
        Wall(color=Color.RED, painted=Painted(Color.BLUE, Swapped.A), maybe=Color.RED),
        {"color": "RED", "painted": {"color": "blue", "swapped": "B"}, "maybe": "red"},
    ),
    (
        Texts,
        Texts("noon", "today", "me", "long", "raw"),
        {"hour": "noon", "day": "today", "identity": "me", "took": "long", "raw": "raw"},
    ),
    (DataFrame, DataFrame(uri="s3://b/t"), "s3://b/t"),
    (DataFrame, DataFrame(uri="s3://b/t", format="csv"), {"uri": "s3://b/t", "format": "csv"}),
    (dict[int, str], {1: "one", 10**18: "many"}, {"1": "one", str(10**18): "many"}),
]


def interface(*kinds: Any) -> TypedInterface:
    """Make the interface of a task with inputs of these types, called a, b, ..."""
    return interface_of(
        **dict(zip("abcdefgh", map(TypeEngine.to_literal_type, kinds), strict=False))
    )


def to_literal(given: Any, kind: Any) -> literals_pb2.Literal:
    return to_literals({"a": given}, {"a": TypeEngine.to_literal_type(kind)})["a"]


def as_the_sdk(value: Any, kind: Any) -> literals_pb2.Literal:
    literal_type = TypeEngine.to_literal_type(kind)
    return asyncio.run(TypeEngine.to_literal(value, kind, literal_type))


def read(literal: literals_pb2.Literal, kind: Any) -> Any:
    """Return what a task receives."""
    return asyncio.run(TypeEngine.to_python_value(literal, kind))


@pytest.mark.parametrize(("kind", "native", "given"), CASES)
def test_a_task_receives_what_was_given_and_what_is_shown(
    kind: Any, native: Any, given: Any
) -> None:
    literal = as_the_sdk(native, kind)
    expected = pformat(read(literal, kind))  # sorted: Flyte does not keep the order of a map
    assert pformat(read(to_literal(given, kind), kind)) == expected
    shown = json.loads(json.dumps(to_json([("a", literal)]), allow_nan=False))["a"]
    if native == math.inf:
        assert shown == "Infinity"
    else:
        assert pformat(read(to_literal(shown, kind), kind)) == expected


def test_nothing_is_converted_or_added() -> None:
    for kind, _, given in CASES:
        if kind in {Defaults, DefaultsModel, Money, Wall, Texts}:
            assert to_json([("a", to_literal(given, kind))]) == {"a": given}


def test_the_older_encoding_of_structs_is_shown() -> None:
    struct = struct_pb2.Struct()
    struct.update({"x": 1, "y": 2.5})
    literal = literals_pb2.Literal(scalar=literals_pb2.Scalar(generic=struct))
    assert to_json([("a", literal)]) == {"a": {"x": 1, "y": 2.5}}


def test_files_inside_a_dataclass_reach_the_task_as_files() -> None:
    native = WithFiles(File(path="s3://b/f.csv"), Dir(path="s3://b/d"), DataFrame(uri="s3://b/t"))
    given = {
        "file": {"path": "s3://b/f.csv"},
        "folder": {"path": "s3://b/d"},
        "table": {"uri": "s3://b/t", "format": "csv"},
    }
    received = read(to_literal(given, WithFiles), WithFiles)
    assert (received.file, received.folder) == (native.file, native.folder)
    assert (received.table.uri, received.table.format) == ("s3://b/t", "csv")


def test_values_that_json_cannot_hold_are_shown_as_references() -> None:
    pickled = as_the_sdk({1, 2}, set[int])
    named = [
        ("pickle", pickled),
        ("file", as_the_sdk(File(path="s3://f", hash="h"), File)),
        ("table", as_the_sdk(DataFrame(uri="s3://t", format="csv"), DataFrame)),
        ("nan", as_the_sdk(math.nan, float)),
    ]
    assert to_json(named) == {
        "pickle": {"kind": "pickle", "size": len(pickled.scalar.binary.value)},
        "file": {"kind": "file", "uri": "s3://f", "hash": "h"},
        "table": {"kind": "dataframe", "uri": "s3://t", "format": "csv"},
        "nan": "NaN",
    }


def test_the_schema_describes_a_tasks_inputs() -> None:
    task = interface(str, int, Color, list[int], Color | None, File, bytes, Everything)
    task.inputs.variables[0].value.description = "who"
    default = NamedParameter(name="b", parameter=Parameter(default=as_the_sdk(5, int)))
    schema = inputs_schema(task, [default])
    everything = schema["properties"].pop("h")
    assert schema == {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "a": {"type": "string", "description": "who"},
            "b": {"type": "integer", "format": "int64", "default": 5},
            "c": {"type": "string", "enum": ["RED", "BLUE"]},
            "d": {"type": "array", "items": {"type": "integer", "format": "int64"}},
            "e": {"anyOf": [{"type": "string", "enum": ["RED", "BLUE"]}, {"type": "null"}]},
            "f": {
                "type": ["string", "object"],
                "description": "the URI of a file",
                "format": "uri",
                "properties": {
                    "kind": {"const": "file"},
                    "uri": {"type": "string", "format": "uri"},
                    "format": {"type": "string"},
                    "hash": {"type": "string"},
                },
                "required": ["uri"],
                "additionalProperties": False,
            },
            "g": {"not": {}, "description": "a Python object, which Flyte stores as a pickle"},
        },
        "required": ["a", "c", "d", "e", "f", "g", "h"],
        "additionalProperties": False,
    }
    assert everything["title"] == "Everything"
    assert everything["properties"]["point"] == {
        "type": "object",
        "title": "Point",
        "properties": {"x": {"type": "integer"}, "y": {"type": "number"}},
        "required": ["x"],
        "additionalProperties": False,
    }
    assert everything["required"] == list(Everything.__annotations__)


def test_references_in_a_schema_stay_references() -> None:
    schema = inputs_schema(interface(Tree, Owner, Tree))
    assert schema["properties"] == {
        "a": {"$ref": "#/$defs/Tree"},
        "b": {
            "type": "object",
            "title": "Owner",
            "properties": {
                "pet": {
                    "title": "Pet",
                    "anyOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}],
                }
            },
            "required": ["pet"],
        },
        "c": {"$ref": "#/$defs/Tree-3"},
    }
    assert schema["$defs"].keys() == {"Tree", "Cat", "Dog", "Tree-3"}
    assert schema["$defs"]["Tree"]["properties"]["children"]["items"] == {"$ref": "#/$defs/Tree"}


def test_the_schema_of_outputs_describes_references() -> None:
    types = {"o0": int, "o1": File, "o2": bytes}
    outputs = {name: TypeEngine.to_literal_type(kind) for name, kind in types.items()}
    schema = outputs_schema(interface_of(outputs | {"o3": LiteralType()}))
    assert schema["required"] == ["o0", "o1", "o2", "o3"]
    kinds = [schema["properties"][name]["properties"]["kind"] for name in ("o1", "o2")]
    assert kinds == [{"const": "file"}, {"const": "pickle"}]
    assert "not" not in schema["properties"]["o3"]


def test_the_names_of_an_enum_are_all_that_is_valid_only_where_the_sdk_reads_names() -> None:
    schema = inputs_schema(interface(Wall))
    fields = schema["properties"]["a"]["properties"]
    names = {"title": "Color", "enum": ["RED", "BLUE"]}
    assert fields["color"] == names
    assert schema["$defs"]["Painted"]["properties"]["color"] == {"$ref": "#/$defs/Color"}
    assert schema["$defs"]["Color"]["anyOf"][0]["enum"] == names["enum"]
    wall = {"color": "RED", "painted": {"color": "blue", "swapped": "A"}}
    with pytest.raises(InvalidInputs, match="color: must be RED or BLUE"):
        to_literal(wall | {"color": "red"}, Wall)


ROUNDED = "must be text, or have at most 15 digits: a longer number may have been rounded"
PRECISE = "must not be more precise than microseconds: Python drops the rest"
WRONG: list[tuple[Any, Any, list[tuple[tuple[str | int, ...], str]]]] = [
    (int, "1", [((), "must be of type integer")]),
    (int, True, [((), "must be of type integer")]),
    (int, 1.5, [((), "must be of type integer")]),
    (int, None, [((), "must be of type integer")]),
    (int, 2**63, [((), "must be an integer of 64 bits")]),
    (float, "1", [((), "must be of type number")]),
    (float, 10**400, [((), "must be an integer of 64 bits")]),
    (Money, {"amount": 2**64}, [(("amount",), "matches none of the types of the union")]),
    (Money, {"amount": 3.14159265358979323846}, [(("amount",), ROUNDED)]),
    (Money, {"amount": 12345678901234567.89}, [(("amount",), ROUNDED)]),
    (struct_pb2.Struct, {"a": [2**53]}, [(("a", 0), "must be below 2**53, or text")]),
    (dt.datetime, "2024-01-02T03:04:05.1234567Z", [((), PRECISE)]),
    (dt.timedelta, "PT0.0000001S", [((), PRECISE)]),
    (ByLevel, {"x": {"1": 0}}, [(("x",), "cannot be given: keys that JSON cannot hold")]),
    (str, 1, [((), "must be of type string")]),
    (str, "\ud800", [((), "must be Unicode text")]),
    (bool, 0, [((), "must be of type boolean")]),
    (type(None), 0, [((), "must be of type null")]),
    (dt.datetime, "soon", [((), "must be of the format date-time")]),
    (dt.datetime | str | None, 1, [((), "matches none of the types of the union")]),
    (dt.datetime | None, "2024-01-02", [((), "must be of the format date-time")]),
    (dt.timedelta, "soon", [((), "must be of the format duration")]),
    (Color, "red", [((), "must be RED or BLUE")]),
    (
        list[int],
        [1, "a", 2, None],
        [((1,), "must be of type integer"), ((3,), "must be of type integer")],
    ),
    (list[int], {}, [((), "must be of type array")]),
    (dict[str, int], {"k": "v"}, [(("k",), "must be of type integer")]),
    (dict[str, int], {"\ud800": 1}, [(("?",), "must be Unicode text")]),
    (dict[str, int], [], [((), "must be of type object")]),
    (dict, {"k": 2**64}, [(("k",), "must be an integer of 64 bits")]),
    (list[int] | None, ["a"], [((0,), "must be of type integer")]),
    (Union[Circle, Point], {}, [((), "matches none of the types of the union")]),  # noqa: UP007
    (
        list[int] | list[str],
        [],
        [((), "matches 2 types of the union: ambiguous")],
    ),
    (
        Point,
        {"y": "a", "z": 1},
        [
            (("x",), "must be given"),
            (("y",), "must be of type number"),
            (("z",), "there is no such field"),
        ],
    ),
    (Annotated[int, Field(ge=1)], 0, [((), "must be at least 1")]),
    (Annotated[int, Field(lt=1)], 1, [((), "must be less than 1")]),
    (Annotated[str, Field(max_length=1)], "ab", [((), "must have at most 1 characters")]),
    (Annotated[list[int], Field(min_length=1)], [], [((), "must have at least 1 items")]),
    (Everything, EVERYTHING_JSON | {"raw": "?"}, [(("raw",), "must be of the format base64")]),
    (
        Everything,
        EVERYTHING_JSON | {"names": {"x": ""}},
        [(("names", "x"), "must be named by an integer")],
    ),
    (Everything, EVERYTHING_JSON | {"level": 3}, [(("level",), "must be 1 or 2")]),
    (Everything, EVERYTHING_JSON | {"pair": [1]}, [(("pair",), "must have at least 2 items")]),
    (Owner, {"pet": {"kind": "cow"}}, [(("pet",), "matches none of the types of the union")]),
    (
        Tree,
        {"value": 1, "children": [{}]},
        [
            (("children", 0, "value"), "must be given"),
            (("children", 0, "children"), "must be given"),
        ],
    ),
    (File, "report.csv", [((), "must be of the format uri")]),
    (File, {"uri": "s3://b", "path": "x"}, [(("path",), "there is no such field")]),
    (File, {"kind": "pickle", "uri": "s3://b"}, [(("kind",), "must be file")]),
    (bytes, "AA==", [((), "cannot be given: a Python object, which Flyte stores as a pickle")]),
    (
        bytes | None,
        "AA==",
        [((), "cannot be given: a Python object, which Flyte stores as a pickle")],
    ),
]


@pytest.mark.parametrize(("kind", "given", "errors"), WRONG)
def test_every_invalid_value_is_reported_with_its_location(
    kind: Any, given: Any, errors: list[tuple[tuple[str | int, ...], str]]
) -> None:
    with pytest.raises(InvalidInputs) as caught:
        to_literal(given, kind)
    assert caught.value.errors == [(("a", *location), message) for location, message in errors]


def test_a_number_of_a_model_that_python_code_passes_on_has_not_been_rounded() -> None:
    price, kind = Price(value=0.1 + 0.2), TypeEngine.to_literal_type(Price)
    made = asyncio.run(translate({"a": price}, {"a": Annotated[Any, JsonTransformer(kind)]}))
    assert read(made["a"], Price) == price


def test_unknown_and_missing_inputs_are_reported_and_optional_ones_may_be_left_out() -> None:
    task = interface(int, bytes, int)
    default = NamedParameter(name="b", parameter=Parameter(default=as_the_sdk(b"x", bytes)))
    assert "default" not in inputs_schema(task, [default])["properties"]["b"]
    kinds = kinds_of(task)
    with pytest.raises(InvalidInputs) as caught:
        to_literals({"c": "x", "e": 1, "d": 1}, kinds, {"b"})
    assert caught.value.errors == [
        (("e",), "the task has no such input"),
        (("d",), "the task has no such input"),
        (("a",), "must be given"),
        (("c",), "must be of type integer"),
    ]
    assert to_literals({"a": 1, "c": 2}, kinds, {"b"}).keys() == {"a", "c"}
