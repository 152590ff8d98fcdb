"""The work on values ends."""

import json
from typing import Any

import msgpack
import pytest
from flyteidl2.core.types_pb2 import LiteralType, SimpleType

from passthrough.limits import Budget
from passthrough.values.inputs import InvalidInputs, to_literals
from passthrough.values.outputs import to_json

from .support import type_of
from .values.hostile import SIMPLE, TYPES, binary, generic, listed, struct


def test_outputs_over_budget_are_reported_too_large() -> None:
    large = binary(msgpack.packb([{}] * 600))
    shown = to_json([(name, large) for name in "abc"], Budget(1000))
    too_large = {"kind": "too large", "size": large.ByteSize()}
    assert shown == {"a": [{}] * 600, "b": too_large, "c": too_large}
    unread = to_json([("a", binary(b"\xc1" * 64_000))], Budget(1000))["a"]  # is no msgpack
    assert unread["kind"] == "too large"
    text = to_json([("a", generic({"text": "x" * 64_000}))], Budget(1000))["a"]
    assert text["kind"] == "too large"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("list of a file of a long format", ["s3://a"] * 100),
        ("list of a union of a large type", [[]] * 100),
        ("list of 10,000 required fields", [{"a": 1}] * 100),
        ("list of dataframes of 1,500 columns", ["s3://a"] * 400),
        ("list of a union of a type of many parts", ["a"] * 400),
        ("an enum of 10,000", ["9999"] * 5_000),
        ("list of an enum of 10,000 or an integer", [5] * 5_000),
        ("unions doubling over 28 levels", "no"),
        ("anything", {"a": json.loads("[" * 31 + "]" * 31)}),
    ],
)
def test_value_of_too_large_type_is_refused(name: str, value: Any) -> None:
    with pytest.raises(InvalidInputs, match="too large"):
        to_literals({"a": value}, {"a": TYPES[name]}, (), Budget())


def test_list_of_large_unions_over_budget_is_refused() -> None:
    kinds = [SimpleType.BOOLEAN] * 6_000 + [SimpleType.INTEGER]
    kind = listed(LiteralType(union_type={"variants": [{"simple": simple} for simple in kinds]}))
    made = to_literals({"a": [1] * 100}, {"a": kind}, (), Budget())
    assert len(made["a"].collection.literals) == 100
    with pytest.raises(InvalidInputs, match="too large"):
        to_literals({"a": [1] * 20_000}, {"a": kind}, (), Budget())


def test_large_object_of_large_union_is_refused() -> None:
    union = {"anyOf": [{"type": "object", "description": str(number)} for number in range(2_000)]}
    kind = struct({"properties": {"a": union}})
    kind.structure.tag = "Pydantic Transformer"
    value = {"a": {str(number): number for number in range(10_000)}}
    with pytest.raises(InvalidInputs, match="too large"):
        to_literals({"a": value}, {"a": kind}, (), Budget())


def test_list_of_100000_numbers_is_within_limits() -> None:
    inputs = {"a": [*range(100_000)]}
    made = to_literals(inputs, {"a": listed(SIMPLE)}, (), Budget())
    assert to_json(made.items(), Budget()) == inputs


def test_list_of_100000_optional_numbers_is_within_limits() -> None:
    inputs = {"a": [1.5, None] * 50_000}
    made = to_literals(inputs, {"a": type_of(list[float | None])}, (), Budget())
    assert to_json(made.items(), Budget()) == inputs


def test_msgpack_of_many_empty_lists_is_too_large() -> None:
    lists = msgpack.packb([[]] * 600_000)
    assert to_json([("a", binary(lists))], Budget(1_000_000))["a"]["kind"] == "too large"
