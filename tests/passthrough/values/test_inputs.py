"""JSON as tasks receive it, compared with the SDK's own type engine; rows of docs/values.md."""

import datetime as dt
import decimal
import enum
import json
import math
import uuid
from dataclasses import make_dataclass
from pprint import pformat
from typing import Annotated, Any
from typing import Literal as Constant

import httpx
import pages
import pytest
from fastapi import APIRouter, Body
from flyte.io import DataFrame, Dir, File
from flyte.types import TypeEngine
from flyteidl2.core.literals_pb2 import Literal
from flyteidl2.core.types_pb2 import SimpleType
from pydantic import Base64Bytes, BaseModel, NaiveDatetime, computed_field, create_model

from passthrough.calls.json_values import translated
from passthrough.dependencies import Inputs, RequestBody
from passthrough.limits import Budget
from passthrough.values.inputs import InvalidInputs, to_literals
from passthrough.values.outputs import to_json

from ..support import as_a_task_reads, as_the_sdk, type_of
from .kinds import (
    NOW,
    Cat,
    Color,
    Dog,
    Half,
    Level,
    Leveled,
    ModelOne,
    ModelTwo,
    Numbers,
    Odd,
    One,
    Painted,
    Parts,
    Point,
    Secret,
    Swapped,
    Two,
    Wall,
    model_with_union,
    typed_values,
    with_union,
)

router = APIRouter()


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
Square = make_dataclass("Square", [("side", float)])
NamedSquare = make_dataclass("NamedSquare", [("side", float), ("name", str)])
Circle = make_dataclass("Circle", [("kind", Constant["circle"])])
Line = make_dataclass("Line", [("kind", Constant["line"])])
DateOrText = make_dataclass("DateOrText", [("day", dt.date | str)])
ColorOrInteger = create_model("ColorOrInteger", value=Color | int)
Drawing = make_dataclass("Drawing", [("shape", Square | NamedSquare)])
ROWS = [row for rows in pages.data("values").values() for row in rows]
TYPES: dict[str, Any] = {
    "integer": int, "number": float, "number or text": float | str, "boolean": bool, "text": str,
    "optional text": str | None, "date-time": dt.datetime, "naive date-time": dt.datetime,
    "duration": dt.timedelta, "choice": Color, "list": list[int], "map": dict[str, int],
    "dataclass": Point, "model": Numbers, "file": File, "dataframe": DataFrame,
    "Python object": bytes, "date": dt.date, "model that takes any field": Free,
    "model with bytes": Content, "model with bytes in Base64": Encoded,
    "model with a decimal": Amount,
    "model with a naive date-time": Naive, "dataclass with bytes": Raw,
    "dataclass with a duration": Wait, "dataclass with a union": Drawing,
    "dataclass with a date or text": DateOrText, "model with a choice or integer": ColorOrInteger,
    "model with a secret": Secret, "map of integers": dict[int, int],
}  # fmt: skip
"""The types in docs/tables/values.toml."""
Flags = make_dataclass("Flags", [("names", dict[bool, str])])
Due = make_dataclass("Due", [("day", bool | int | dt.date | None)])  # tries all with any text
ANYTHING: Any = {"plain": dict, "maybe": dict[str, Any] | None, "rows": list[dict[str, Any]]}
Anything = create_model("Anything", **ANYTHING, free=Free)
PARTS_JSON = {"level": 2, "pair": [1, "p"], "names": {"1": "one"}}
CASES: list[tuple[Any, Any, Any]] = [
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
    (list[int] | list[str], ["a"], ["a"]),
    (dict[str, list[Swapped]], {"a": [Swapped.A]}, {"a": ["A"]}),
    (Odd, Odd(dt.time(1, 2), uuid.UUID(int=5), decimal.Decimal("0.1"), {1, 2}, (1, 2)),
        {"at": "01:02:00", "id": str(uuid.UUID(int=5)), "amount": "0.1", "numbers": [1, 2],
         "more": [1, 2]}),
    (dict[str, int], {"1": 1, "01": 2}, {"1": 1, "01": 2}),
    (with_union(One | Two), with_union(One | Two)(One(1)), {"u": {"a": 1}}),
    (model_with_union(Cat | Dog), model_with_union(Cat | Dog)(u=Dog(kind="dog")),
        {"u": {"kind": "dog"}}),
    (with_union(Circle | Line), with_union(Circle | Line)(Line("line")), {"u": {"kind": "line"}}),
    (with_union(int | float), with_union(int | float)(2), {"u": 2}),
    (with_union(str | dt.date), with_union(str | dt.date)("2024-01-02"), {"u": "2024-01-02"}),
    (model_with_union(ModelOne | ModelTwo), model_with_union(ModelOne | ModelTwo)(
        u=ModelTwo(a=1, b="x")), {"u": {"a": 1.0, "b": "x"}}),
    (create_model("Halves", half=Half), create_model("Halves", half=Half)(half=Half.HALF),
        {"half": 0.5}),
    (Anything, Anything(plain={"a": [1.0]}, maybe={"b": None}, rows=[{}, {"c": "d"}], free=Free()),
        {"plain": {"a": [1.0]}, "maybe": {"b": None}, "rows": [{}, {"c": "d"}],
         "free": {"options": {}}}),
    (dt.timedelta, dt.timedelta.max, "P2739726Y9DT23H59M59.999999S"),
]  # fmt: skip


def to_literal(given: Any, kind: Any) -> Literal:
    return to_literals({"a": given}, {"a": type_of(kind)}, (), Budget())["a"]


def read(literal: Literal, kind: Any) -> str:
    """Return what a task receives: sorted, because Flyte does not keep the order of a map."""
    return pformat(as_a_task_reads(literal, kind))


@pytest.mark.parametrize(("kind", "native", "given"), CASES)
def test_value_survives_conversion_to_task_and_back(kind: Any, native: Any, given: Any) -> None:
    expected = read(as_the_sdk(native, kind), kind)
    made = to_literal(given, kind)
    assert read(made, kind) == expected
    if kind != int | float:  # an infinity is a text in JSON
        assert read(to_literal(native, kind), kind) == expected
    if type_of(kind).simple == SimpleType.STRUCT:  # nothing is converted or added
        assert to_json([("a", made)]) == {"a": given}
    shown = to_json([("a", as_the_sdk(native, kind))])["a"]
    assert json.dumps(shown, allow_nan=False)
    assert read(to_literal(shown, kind), kind) == expected


def as_other_clients_send(shown: Any) -> Any:
    """Return the same JSON with whole numbers for floats, and the keys of objects in reverse."""
    if isinstance(shown, dict):
        return {name: as_other_clients_send(item) for name, item in reversed(shown.items())}
    if isinstance(shown, list):
        return [*map(as_other_clients_send, shown)]
    is_whole = isinstance(shown, float) and shown.is_integer() and str(shown) != "-0.0"
    return int(shown) if is_whole and abs(shown) < 2**53 else shown


def test_literals_equal_those_of_sdk() -> None:
    """The SDK's type engine, which the app does not change, decides. A cache compares the bytes."""
    others = []
    for kind, native in typed_values():
        stored = as_the_sdk(native, kind)
        shown = to_json([("a", stored)])["a"]
        for sent in (shown, as_other_clients_send(shown)):
            if to_literal(sent, kind) != stored:
                others.append((kind, sent, to_literal(sent, kind), stored))
    assert others == []


def test_dict_may_contain_pydantic_values() -> None:
    stored = to_literal({"day": [NOW.date()]}, dict)
    assert to_json([("a", stored)]) == {"a": {"day": ["2024-01-02"]}}
    assert to_json([("a", to_literal(Twice(value=2), Twice))]) == {"a": {"value": 2}}


LATE = "9999-12-31T23:59:59-14:00"  # in UTC, where no datetime is
DURATIONS = "P", "P1DT", "PT1.5H", "1 h 30", "P1000000000D", "PT0.0000001S", "PT1S\n", "PT\u0661S"
NO_TIME = "must be of the format date-time, such as 2026-01-31T09:30:00.250Z"
NO_DATE = "must be of the format date, such as 2026-01-31"
NO_DECIMAL = "must be of the format decimal, such as 12.50"
NO_UUID = "must be of the format uuid, such as 00000000-0000-0000-0000-000000000001"
NO_DURATION = "must be of the format duration, such as P1DT2H30M"
NO_FLOAT = "must be a number that a float can express exactly"
NO_FIELD = "there is no such field"
NOT_KEYS = "cannot be given: an object whose keys are no texts and no integers"
NO_TYPE = "matches none of the types"
OTHER_TYPE = "the task may read it as another type of the union"
NO_DELTA = "must be a whole number of microseconds, at most 86399999999999.999999 seconds"
SEVERAL_TYPES = "matches several of the types of the union"
WRONG: list[tuple[Any, Any, dict[Any, str]]] = [
    (float, 2**53 + 1, {(): NO_FLOAT}),
    (Point, {"x": 1, "y": -(2**53) - 1}, {("y",): NO_FLOAT}),
    (float, 10**20, {(): "must be an integer of 64 bits"}),
    (dt.datetime, LATE, {(): NO_TIME}),
    (dt.datetime | str | None, 1, {(): NO_TYPE}),
    *((dt.timedelta, wrong, {(): NO_DURATION}) for wrong in DURATIONS),
    (Due, {"day": "20240102"}, {("day",): NO_DATE}),
    (dict[str, int], {"\ud800": 1}, {("\ud800",): "must be Unicode text"}),
    (list[int] | None, ["a"], {(0,): "must be of type integer"}),
    (Point, {"y": "a", "z": 1}, {("x",): "must be given"}),
    (Point, {"x": 1, "y": "a", "z": 1}, {("y",): "must be of type number"}),
    (Parts, PARTS_JSON | {"level": True}, {("level",): "must be 1 or 2"}),
    (Parts, PARTS_JSON | {"pair": [1, "a", 2]}, {("pair",): "must have 2 items"}),
    (create_model("Few", u=Constant["a", 1, True]), {"u": 1.0}, {("u",): "must be a or 1 or True"}),
    (Flags, {"names": {"false": "a"}}, {("names",): NOT_KEYS}),
    (Leveled, {"level": True}, {("level",): NO_TYPE}),
    (list[Twice] | None, [{"value": 1, "double": 2}], {(0, "double"): NO_FIELD}),
    (Wall, {"color": "RED", "painted": {"color": "red", "swapped": "A", "size": 1}},
        {("painted", "size"): NO_FIELD}),
    (File, {"kind": "pickle", "uri": "s3://b"}, {("kind",): "must be file"}),
    (Wait, {"wait": 1e15}, {("wait",): NO_DELTA}),
    (with_union(uuid.UUID | int), {"u": "12"}, {("u",): NO_UUID}),
    (with_union(bool | decimal.Decimal), {"u": "a"}, {("u",): NO_DECIMAL}),
    (with_union(decimal.Decimal | int), {"u": 1}, {("u",): OTHER_TYPE}),
    (with_union(float | str), {"u": "NaN"}, {("u",): OTHER_TYPE}),
    # A task would read another value than was sent:
    (with_union(One | Two), {"u": {"a": 1.5}}, {("u",): OTHER_TYPE}),
    (with_union(One | Two), {"u": {"a": 1, "b": "x"}}, {("u",): OTHER_TYPE}),
    (with_union(list[int] | list[str]), {"u": ["1"]}, {("u",): OTHER_TYPE}),
    (with_union(list[int] | list[str]), {"u": ["a"]}, {("u",): OTHER_TYPE}),
    (with_union(list[int] | str), {"u": "12"}, {("u",): OTHER_TYPE}),
    (with_union(dict[str, int] | dict[str, str]), {"u": {"a": "1"}}, {("u",): OTHER_TYPE}),
    (with_union(dt.datetime | dt.date), {"u": "2024-01-02"}, {("u",): OTHER_TYPE}),
    (with_union(tuple[int, str] | list[str]), {"u": ["1", "a"]}, {("u",): OTHER_TYPE}),
    (model_with_union(dt.datetime | dt.date), {"u": "2024-01-02"}, {("u",): OTHER_TYPE}),
    (model_with_union(One | dict[str, Any]), {"u": {"a": 1, "b": 2}}, {("u",): OTHER_TYPE}),
    # The SDK finds several variants, and the task fails:
    (One | Two, {"a": 1, "b": "x"}, {(): SEVERAL_TYPES}),
    (ModelOne | ModelTwo | None, {"a": 1, "b": "x"}, {(): SEVERAL_TYPES}),
    # Values of the app's own:
    (Color | str, Color.RED, {(): SEVERAL_TYPES}),
    (dict, {"k": [object()]}, {("k", 0): "must be of type JSON"}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "given", "errors"), WRONG)
def test_invalid_value_raises_first_error_with_location(
    kind: Any, given: Any, errors: dict[tuple[str | int, ...], str]
) -> None:
    with pytest.raises(InvalidInputs) as caught:
        to_literal(given, kind)
    assert caught.value.errors == [(("a", *location), what) for location, what in errors.items()]


class Given(RequestBody):
    inputs: Inputs


@router.post("/rows/{number}")
async def translate(number: int, given: Annotated[Given, Body()]) -> dict[str, str]:
    """Return an input as it is stored, in hexadecimal digits."""
    kinds = {"value": TypeEngine.to_literal_type(TYPES[ROWS[number]["type"]])}
    made = await translated(lambda budget: to_literals(given.inputs, kinds, (), budget))
    return {"stored": made["value"].SerializeToString(deterministic=True).hex()}


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
def test_value_is_converted_as_documented(alice: httpx.Client, row: dict[str, str]) -> None:
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
def test_deeply_nested_value_is_refused(alice: httpx.Client, levels: int, status: int) -> None:
    (number,) = (ROWS.index(row) for row in ROWS if row["type"] == "model that takes any field")
    body = '{"inputs": {"value": {"options": {"a": ' + "[" * levels + "]" * levels + "}}}}"
    headers = {"Content-Type": "application/json"}
    answer = alice.post(f"/rows/{number}", content=body, headers=headers)
    assert answer.status_code == status, answer.text
