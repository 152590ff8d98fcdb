"""Values as JSON: what tasks receive, compared with the SDK's own type engine; rows of the page.

Also endpoints as in Flyte's documentation: their inputs, their outputs, and their caller.
"""

import asyncio
import datetime as dt
import decimal
import enum
import json
import math
import uuid
from collections.abc import Callable
from dataclasses import dataclass, make_dataclass
from pprint import pformat
from typing import Annotated, Any
from typing import Literal as Constant

import flyte
import httpx
import pages
import pytest
from fastapi import APIRouter, Body
from flyte import remote
from flyte.io import DataFrame, Dir, File
from flyte.types import TypeEngine
from flyteidl2.core.interface_pb2 import Parameter
from flyteidl2.core.literals_pb2 import Literal
from flyteidl2.core.types_pb2 import LiteralType, SimpleType
from flyteidl2.task.common_pb2 import NamedParameter
from google.protobuf import struct_pb2
from pydantic import Base64Bytes, BaseModel, Field, NaiveDatetime, computed_field, create_model

from local_flyte import LocalFlyte, ReceivedCall
from local_flyte.testing import bearer
from passthrough.calls.json_values import translated
from passthrough.dependencies import Inputs, RequestBody
from passthrough.values.budget import Budget
from passthrough.values.inputs import InvalidInputs, to_literals
from passthrough.values.outputs import to_json
from passthrough.values.schemas import inputs_schema

from . import naive_endpoints
from .support import as_a_task_reads
from .test_hostile_literals import interface_of, struct

Received = Callable[[], list[ReceivedCall]]
router = APIRouter()
router.include_router(naive_endpoints.router)


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Point:
    x: int
    y: float = 2.0


class Numbers(BaseModel):
    names: dict[int, str]


class Free(BaseModel, extra="allow"):
    options: dict[str, Any] = {}


class Twice(BaseModel):
    value: int

    @computed_field
    def double(self) -> int:
        return 2 * self.value


Raw = make_dataclass("Raw", [("content", bytes)])
Wait = make_dataclass("Wait", [("wait", dt.timedelta)])
Content = create_model("Content", content=bytes)
Encoded = create_model("Encoded", content=Base64Bytes)
Amount = create_model("Amount", amount=decimal.Decimal)
Naive = create_model("Naive", at=NaiveDatetime)
ROWS = pages.data("values")["rows"]
TYPES: dict[str, Any] = {
    "integer": int, "number": float, "number or text": float | str, "boolean": bool, "text": str,
    "optional text": str | None, "date-time": dt.datetime, "naive date-time": dt.datetime,
    "duration": dt.timedelta, "choice": Color, "list": list[int], "map": dict[str, int],
    "dataclass": Point, "model": Numbers, "file": File, "dataframe": DataFrame,
    "Python object": bytes, "date": dt.date, "model that takes any field": Free,
    "model with bytes": Content, "model with bytes in Base64": Encoded,
    "model with a decimal": Amount,
    "model with a naive date-time": Naive, "dataclass with bytes": Raw,
    "dataclass with a duration": Wait,
}  # fmt: skip
"""The types of the table in docs/values.md."""


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Swapped(enum.Enum):
    """Its names are the values of other members."""

    A = "B"
    B = "A"


ODD = {"at": dt.time, "id": uuid.UUID, "amount": decimal.Decimal, "numbers": set[int]}
Odd = make_dataclass("Odd", [*ODD.items(), ("more", tuple[int, ...])])


@dataclass
class Painted:
    color: Color
    swapped: Swapped


class Leveled(BaseModel):
    level: Level
    by: Color | bool | None = None
    since: Color | dt.date | None = None


class Wall(BaseModel):
    """The SDK lists an enum's names everywhere, but a dataclass in a model takes its values."""

    color: Color
    painted: Painted
    maybe: Color | None = None


class Tree(BaseModel):
    value: int
    children: list["Tree"]


PARTS: Any = [("level", Level), ("pair", tuple[int, str]), ("names", dict[int, str])]
Parts = make_dataclass("Parts", PARTS)
Square = make_dataclass("Square", [("side", float)])
Flags = make_dataclass("Flags", [("names", dict[bool, str])])
Due = make_dataclass("Due", [("day", bool | int | dt.date | None)])  # tries all with any text
ANYTHING: Any = {"plain": dict, "maybe": dict[str, Any] | None, "rows": list[dict[str, Any]]}
Anything = create_model("Anything", **ANYTHING, free=Free)
KINDS: Any = (Constant["cat"], Constant["dog"])
Cat, Dog = create_model("Cat", kind=KINDS[0]), create_model("Dog", kind=KINDS[1])
PET: Any = Annotated[Cat | Dog, Field(discriminator="kind")]
Owner = create_model("Owner", pet=PET)
NOW = dt.datetime(2024, 1, 2, 3, 4, 5, 678000, tzinfo=dt.UTC)
PARTS_JSON = {"level": 2, "pair": [1, "p"], "names": {"1": "one"}}
CASES: list[tuple[Any, Any, Any]] = [
    (float, 1e20, 10**20),
    (int | float, -math.inf, "-Infinity"),
    (dt.datetime, NOW, "2024-01-02T04:04:05.678+01:00"),
    (dict, {"z": [-0.0, None, True], "a": {"b": "c"}}, {"z": [-0.0, None, True], "a": {"b": "c"}}),
    (Point | Square, Square(2.0), {"side": 2.0}),
    (File, File(path="s3://b/k.csv", format="csv", hash="h"),
        {"kind": "file", "uri": "s3://b/k.csv", "format": "csv", "hash": "h"}),
    (Dir, Dir(path="s3://b/d"), {"kind": "directory", "uri": "s3://b/d"}),
    (DataFrame, DataFrame(uri="s3://b/t", format="csv"), {"uri": "s3://b/t", "format": "csv"}),
    (Annotated[DataFrame, "csv"], DataFrame(uri="s3://b/t"), "s3://b/t"),
    (Wall, Wall(color=Color.RED, painted=Painted(Color.BLUE, Swapped.A), maybe=Color.RED),
        {"color": "RED", "painted": {"color": "blue", "swapped": "B"}, "maybe": "red"}),
    (Leveled, Leveled(level=Level.LOW, by=Color.RED, since=NOW.date()),
        {"level": 1, "by": "red", "since": "2024-01-02"}),
    (Due, Due(NOW.date()), {"day": "2024-01-02"}),
    (int | float | bool | None, 1, 1),
    (dict[str, list[Swapped]], {"a": [Swapped.A]}, {"a": ["A"]}),
    (Odd, Odd(dt.time(1, 2), uuid.UUID(int=5), decimal.Decimal("0.1"), {1, 2}, (1, 2)),
        {"at": "01:02:00", "id": str(uuid.UUID(int=5)), "amount": "0.1", "numbers": [1, 2],
         "more": [1, 2]}),
    (dict[str, int], {"1": 1, "01": 2}, {"1": 1, "01": 2}),
    (Anything, Anything(plain={"a": [1.0]}, maybe={"b": None}, rows=[{}, {"c": "d"}], free=Free()),
        {"plain": {"a": [1.0]}, "maybe": {"b": None}, "rows": [{}, {"c": "d"}],
         "free": {"options": {}}}),
    (dt.timedelta, dt.timedelta.max, "P999999999DT86399.999999S"),
    (DataFrame, DataFrame(uri="s3://b/t.csv", format="csv"), "s3://b/t.csv"),
    (dict[int, str], {2**53: "a", 2**53 + 1: "b"}, {str(2**53): "a", str(2**53 + 1): "b"}),
]  # fmt: skip


def type_of(kind: Any) -> LiteralType:
    return TypeEngine.to_literal_type(kind)


def to_literal(given: Any, kind: Any) -> Literal:
    return to_literals({"a": given}, {"a": type_of(kind)}, (), Budget())["a"]


def as_the_sdk(value: Any, kind: Any) -> Literal:
    return asyncio.run(TypeEngine.to_literal(value, kind, type_of(kind)))


def read(literal: Literal, kind: Any) -> str:
    """Return what a task receives: sorted, because Flyte does not keep the order of a map."""
    return pformat(as_a_task_reads(literal, kind))


@pytest.mark.parametrize(("kind", "native", "given"), CASES)
def test_a_task_receives_what_was_given_and_what_is_shown(
    kind: Any, native: Any, given: Any
) -> None:
    expected = read(as_the_sdk(native, kind), kind)
    made = to_literal(given, kind)
    assert read(made, kind) == expected
    if kind != dict[int, str]:  # whose keys JSON writes as texts
        assert read(to_literal(native, kind), kind) == expected
    if type_of(kind).simple == SimpleType.STRUCT:  # nothing is converted or added
        assert to_json([("a", made)]) == {"a": given}
    shown = to_json([("a", as_the_sdk(native, kind))])["a"]
    assert json.dumps(shown, allow_nan=False)
    assert read(to_literal(shown, kind), kind) == expected


def test_a_dict_may_hold_what_pydantic_writes_as_json() -> None:
    stored = to_literal({"day": [NOW.date()]}, dict)
    assert to_json([("a", stored)]) == {"a": {"day": ["2024-01-02"]}}
    assert to_json([("a", to_literal(Twice(value=2), Twice))]) == {"a": {"value": 2}}


def test_the_schema_describes_a_tasks_inputs() -> None:
    kinds: dict[str, Any] = {
        "a": str, "b": int, "c": Color, "d": list[int], "e": Color | None, "g": bytes,
        "h": Annotated[int, Field(description="some")], "i": struct_pb2.Struct,
    }  # fmt: skip
    named = {name: type_of(kind) for name, kind in kinds.items()}
    fields = {"x": {"default": 2**53 - 1}, "y": {"default": 2**53}}  # this may have been rounded
    task = interface_of(**named, j=struct({"type": ["object"] * 9, "properties": fields}))
    task.inputs.variables[0].value.description = "who"
    defaults = [
        NamedParameter(name="g", parameter=Parameter(default=as_the_sdk(b"x", bytes))),
        NamedParameter(name="b", parameter=Parameter(default=as_the_sdk(5, int))),
    ]
    schema = inputs_schema(task, defaults, Budget())
    assert [*schema["properties"]] == ["a", "c", "d", "e", "h", "i", "j", "g", "b"]
    integer = {"type": "integer", "format": "int64"}
    assert schema == {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "a": {"type": "string", "description": "who"},
            "b": integer | {"default": 5},
            "c": {"type": "string", "enum": ["RED", "BLUE"]},
            "d": {"type": "array", "items": integer},
            "e": {"anyOf": [{"type": "string", "enum": ["RED", "BLUE"]}, {"type": "null"}]},
            "g": {"not": {}, "description": "a Python object, which Flyte stores as a pickle"},
            "h": integer | {"description": "some"},
            "i": {"not": {}, "description": "a message, whose fields Flyte does not describe"},
            "j": {
                "type": ["object"],
                "properties": {"x": {"default": 2**53 - 1}, "y": {}},
                "additionalProperties": False,
            },
        },
        "required": ["a", "c", "d", "e", "h", "i", "j"],
        "additionalProperties": False,
    }


def test_a_description_is_the_authors_and_says_what_a_format_means() -> None:
    described = create_model("Described", content=(bytes, Field(description="of the page")))
    kinds: dict[str, Any] = {"a": File, "b": File, "c": Wait, "d": Content, "e": described}
    task = interface_of(**{name: type_of(kind) for name, kind in kinds.items()}, f=type_of(bytes))
    for name in "af":
        (variable,) = (each for each in task.inputs.variables if each.key == name)
        variable.value.description = "the towns"
    found = inputs_schema(task, (), Budget())["properties"]
    fields = [field for of in found.values() for field in of.get("properties", {}).items()]
    assert {name: found[name].get("description") for name in "abf"} == {
        "a": "the towns", "b": "the URI of a file",
        "f": "a Python object, which Flyte stores as a pickle",
    }  # fmt: skip
    assert [field["description"] for name, field in fields if name in {"wait", "content"}] == [
        "in seconds",
        "the task gets its UTF-8 bytes",
        "of the page (the task gets its UTF-8 bytes)",
    ]


def test_references_in_a_schema_stay_references() -> None:
    kinds = {"a": Tree, "b": Owner, "c": Tree, "d": Wall}
    interface = interface_of(**{name: type_of(kind) for name, kind in kinds.items()})
    schema = inputs_schema(interface, (), Budget())
    pet = {"title": "Pet", "anyOf": [{"$ref": "#/$defs/2"}, {"$ref": "#/$defs/3"}]}
    assert schema["properties"]["b"]["properties"] == {"pet": pet}
    assert schema["properties"]["a"] == {"$ref": "#/$defs/1"}
    assert schema["properties"]["c"] == {"$ref": "#/$defs/4"}
    assert [*schema["$defs"]] == [str(number) for number in range(1, 8)]
    assert schema["$defs"]["4"]["properties"]["children"]["items"] == {"$ref": "#/$defs/4"}
    # The names of an enum are shown, and other values are left to the model.
    painted = next(of for of in schema["$defs"].values() if of.get("title") == "Painted")
    name = painted["properties"]["color"]["$ref"].rpartition("/")[2]
    assert schema["$defs"][name]["anyOf"][0] == {"enum": ["RED", "BLUE"]}


LATE = "9999-12-31T23:59:59-14:00"  # in UTC, where no datetime is
DURATIONS = "P", "P1DT", "PT1.5H", "1 h 30", "P1000000000D", "PT0.0000001S", "PT1S\n", "PT\u0661S"
NO_TIME = "must be of the format date-time, such as 2026-01-31T09:30:00.250Z"
NO_DURATION = "must be of the format duration, such as P1DT2H30M"
NO_FIELD = "there is no such field"
NOT_KEYS = "cannot be given: an object whose keys are no texts and no integers"
NO_INTEGER = "must be named by an integer, such as 10"
NO_TYPE = "matches none of the types"
TWO_TYPES = "matches 2 types of the union: ambiguous"
WRONG: list[tuple[Any, Any, dict[Any, str]]] = [
    (float, 10**400, {(): "must be an integer of 64 bits"}),
    (dt.datetime, LATE, {(): NO_TIME}),
    (dt.datetime | str | None, 1, {(): NO_TYPE}),
    *((dt.timedelta, wrong, {(): NO_DURATION}) for wrong in DURATIONS),
    (Due, {"day": "20240102"}, {("day",): NO_TYPE}),
    (dict[str, int], {"\ud800": 1}, {("\ud800",): "must be Unicode text"}),
    (dict, [], {(): "must be of type object"}),
    (list[int] | None, ["a"], {(0,): "must be of type integer"}),
    (Point, {"y": "a", "z": 1},
        {("x",): "must be given", ("y",): "must be of type number",
         ("z",): NO_FIELD}),
    (Parts, PARTS_JSON | {"level": True}, {("level",): "must be 1 or 2"}),
    (Parts, PARTS_JSON | {"pair": [1, "a", 2]}, {("pair",): "must have 2 items"}),
    (Parts, PARTS_JSON | {"names": {"01": "a"}}, {("names", "01"): NO_INTEGER}),
    (Parts, PARTS_JSON | {"names": {"1\n": "a"}}, {("names", "1\n"): NO_INTEGER}),
    (Flags, {"names": {"false": "a"}}, {("names",): NOT_KEYS}),
    (Leveled, {"level": True}, {("level",): NO_TYPE}),
    (list[Twice] | None, [{"value": 1, "double": 2}], {(0, "double"): NO_FIELD}),
    (Wall, {"color": "RED", "painted": {"color": "red", "swapped": "A", "size": 1}},
        {("painted", "size"): NO_FIELD}),
    (File, {"kind": "pickle", "uri": "s3://b"}, {("kind",): "must be file"}),
    # Values of the app's own:
    (Color | str, Color.RED, {(): TWO_TYPES}),
    (dict, {"k": [object()]}, {("k", 0): "must be of type JSON"}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "given", "errors"), WRONG)
def test_every_invalid_value_is_reported_with_its_location(
    kind: Any, given: Any, errors: dict[tuple[str | int, ...], str]
) -> None:
    with pytest.raises(InvalidInputs) as caught:
        to_literal(given, kind)
    assert caught.value.errors == [(("a", *location), what) for location, what in errors.items()]


GREET = remote.Task.get("tests.greet", auto_version="latest")
"""At module level, for all callers."""


@router.post("/greet")
async def run_the_module_level_task() -> str:
    return (await flyte.run.aio(GREET, name="Ada")).name


@router.post("/positional")
async def run_it_without_names() -> str:
    return (await flyte.run.aio(GREET, "Ada")).name


@router.post("/greet/for/{name}")
async def fetch_the_task_for_somebody_else_too(name: str) -> None:
    await GREET.fetch.aio()
    with remote.auth_metadata(("authorization", bearer(name))):
        await GREET.fetch.aio()


@router.post("/greet/override")
async def run_it_overridden() -> str:
    task = GREET.override.aio(short_name="salutation")
    return (await flyte.run.aio(await task, name="Ada")).name


class Given(RequestBody):
    inputs: Inputs


@router.post("/rows/{number}")
async def translate(number: int, given: Annotated[Given, Body()]) -> dict[str, str]:
    """Return an input as it is stored, in hexadecimal digits."""
    kinds = {"value": TypeEngine.to_literal_type(TYPES[ROWS[number]["type"]])}
    made = await translated(lambda budget: to_literals(given.inputs, kinds, (), budget))
    return {"stored": made["value"].SerializeToString(deterministic=True).hex()}


@router.get("/{project}/{domain}/where")
async def where(project: str, domain: str) -> list[str | None]:
    return [project, domain, flyte.current_project(), flyte.current_domain()]


def test_inputs_and_outputs_are_json_with_their_declared_names(alice: httpx.Client) -> None:
    run = alice.post("/tasks/tests.split/run", json={"text": "Ada"}).json()
    assert run["outputs"] == {"result": "A", "pb2": 3}
    data = {"inputs": {"text": "Ada"}, "outputs": [3, "A"]}  # Flyte sorts them by name
    assert alice.get(f"/runs/{run['name']}/io").json() == data


def written(received: Any) -> str:
    """Return what a task reads as the page writes it."""
    if isinstance(received, File | DataFrame):
        return f"{type(received).__name__} of the URI"
    if isinstance(received, enum.Enum):
        return str(received)
    if isinstance(received, str):
        return json.dumps(received)
    return pformat(received).replace("datetime.", "")  # sorted


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['type']} {row['sent']}")
def test_a_value_is_refused_or_arrives_and_is_shown_as_the_page_says(
    alice: httpx.Client, row: dict[str, str]
) -> None:
    body = f'{{"inputs": {{"value": {row["sent"]}}}}}'
    headers = {"Content-Type": "application/json"}
    answer = alice.post(f"/rows/{ROWS.index(row)}", content=body, headers=headers)
    if "refused" in row:
        assert answer.status_code == 422
        problem = answer.json()
        assert row["refused"] in problem.get("errors", [problem])[0]["detail"]
        return
    assert answer.status_code == 200, answer.text
    literal = Literal.FromString(bytes.fromhex(answer.json()["stored"]))
    assert written(as_a_task_reads(literal, TYPES[row["type"]])) == row["arrives"]
    shown = to_json([("value", literal)])["value"]
    assert json.dumps(shown) == json.dumps(json.loads(row.get("shown", row["sent"])))


@pytest.mark.parametrize(("levels", "status"), [(40, 422), (400, 422), (900, 422), (5_000, 400)])
def test_values_that_are_nested_too_deep_are_refused(
    alice: httpx.Client, levels: int, status: int
) -> None:
    (number,) = (ROWS.index(row) for row in ROWS if row["type"] == "model that takes any field")
    body = '{"inputs": {"value": {"options": {"a": ' + "[" * levels + "]" * levels + "}}}}"
    headers = {"Content-Type": "application/json"}
    answer = alice.post(f"/rows/{number}", content=body, headers=headers)
    assert answer.status_code == status, answer.text


@pytest.mark.parametrize(
    ("path", "inputs", "wrong"),
    [
        ("/tasks/tests.greet/run", {"excited": 1, "loud": True}, [["loud"], ["name"], ["excited"]]),
        ("/runs/{run}/again", {"inputs": 1, "name": "Bob"}, [[]]),  # named in the text
    ],
)
def test_all_invalid_inputs_are_reported_at_once_with_their_locations(
    alice: httpx.Client, greeting: str, path: str, inputs: dict[str, Any], wrong: Any
) -> None:
    answer = alice.post(path.format(run=greeting), json=inputs)
    assert answer.status_code == 422, answer.text
    found = [error["location"] for error in answer.json()["errors"]]
    assert sorted(found) == sorted(["inputs", *location] for location in wrong)


def test_inputs_without_names_are_refused(alice: httpx.Client) -> None:
    assert alice.post("/positional").status_code == 500


def test_a_task_at_module_level_is_fetched_by_each_caller(
    alice: httpx.Client, bob: httpx.Client, received: Received
) -> None:
    for path in ("/greet", "/greet/override"):
        for client in (alice, bob, alice):
            assert client.post(path).status_code == 200
    for method in ("GetTaskDetails", "CreateRun"):
        callers = [call.headers["authorization"] for call in received() if call.method == method]
        assert callers == [bearer("alice"), bearer("bob"), bearer("alice")] * 2


def test_a_task_is_fetched_again_for_somebody_else_in_the_same_request(alice: httpx.Client) -> None:
    assert alice.post("/greet/for/bob").status_code == 200
    assert alice.post("/greet/for/carol").status_code == 403


def test_the_project_and_the_domain_are_those_of_the_query_or_the_apps(
    alice: httpx.Client, local_flyte: LocalFlyte
) -> None:
    asked = {"project": "two", "domain": "second"}
    own = {"project": local_flyte.project, "domain": local_flyte.domain}
    for query in (asked, {}):
        called = (own | query).values()
        assert alice.get("/a/b/where", params=query).json() == ["a", "b", *called]
