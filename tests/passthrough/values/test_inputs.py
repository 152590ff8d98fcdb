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
from .kinds import Color, Level, Leveled, Numbers, Odd, Painted, Parts, Point, Swapped, Wall

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
    "dataclass with a duration": Wait,
}  # fmt: skip
"""The types in docs/tables/values.toml."""
Square = make_dataclass("Square", [("side", float)])
Flags = make_dataclass("Flags", [("names", dict[bool, str])])
Due = make_dataclass("Due", [("day", bool | int | dt.date | None)])  # tries all with any text
ANYTHING: Any = {"plain": dict, "maybe": dict[str, Any] | None, "rows": list[dict[str, Any]]}
Anything = create_model("Anything", **ANYTHING, free=Free)
NOW = dt.datetime(2024, 1, 2, 3, 4, 5, 678000, tzinfo=dt.UTC)
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
    (dict[str, list[Swapped]], {"a": [Swapped.A]}, {"a": ["A"]}),
    (Odd, Odd(dt.time(1, 2), uuid.UUID(int=5), decimal.Decimal("0.1"), {1, 2}, (1, 2)),
        {"at": "01:02:00", "id": str(uuid.UUID(int=5)), "amount": "0.1", "numbers": [1, 2],
         "more": [1, 2]}),
    (dict[str, int], {"1": 1, "01": 2}, {"1": 1, "01": 2}),
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
def test_a_task_receives_what_was_given_and_what_is_shown(
    kind: Any, native: Any, given: Any
) -> None:
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


def test_a_dict_may_hold_what_pydantic_writes_as_json() -> None:
    stored = to_literal({"day": [NOW.date()]}, dict)
    assert to_json([("a", stored)]) == {"a": {"day": ["2024-01-02"]}}
    assert to_json([("a", to_literal(Twice(value=2), Twice))]) == {"a": {"value": 2}}


LATE = "9999-12-31T23:59:59-14:00"  # in UTC, where no datetime is
DURATIONS = "P", "P1DT", "PT1.5H", "1 h 30", "P1000000000D", "PT0.0000001S", "PT1S\n", "PT\u0661S"
NO_TIME = "must be of the format date-time, such as 2026-01-31T09:30:00.250Z"
NO_DURATION = "must be of the format duration, such as P1DT2H30M"
NO_FIELD = "there is no such field"
NOT_KEYS = "cannot be given: an object whose keys are no texts and no integers"
NO_TYPE = "matches none of the types"
TWO_TYPES = "matches 2 types of the union: ambiguous"
WRONG: list[tuple[Any, Any, dict[Any, str]]] = [
    (float, 10**20, {(): "must be an integer of 64 bits"}),
    (dt.datetime, LATE, {(): NO_TIME}),
    (dt.datetime | str | None, 1, {(): NO_TYPE}),
    *((dt.timedelta, wrong, {(): NO_DURATION}) for wrong in DURATIONS),
    (Due, {"day": "20240102"}, {("day",): NO_TYPE}),
    (dict[str, int], {"\ud800": 1}, {("\ud800",): "must be Unicode text"}),
    (list[int] | None, ["a"], {(0,): "must be of type integer"}),
    (Point, {"y": "a", "z": 1}, {("x",): "must be given"}),
    (Point, {"x": 1, "y": "a", "z": 1}, {("y",): "must be of type number"}),
    (Parts, PARTS_JSON | {"level": True}, {("level",): "must be 1 or 2"}),
    (Parts, PARTS_JSON | {"pair": [1, "a", 2]}, {("pair",): "must have 2 items"}),
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
def test_an_invalid_value_is_reported_with_the_location_of_the_first_error(
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
