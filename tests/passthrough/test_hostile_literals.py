"""Malicious literals and types: they stay data, and the work on them ends.

A Python audit hook checks that nothing is opened, connected to, imported, compiled or unpickled
while such a message is translated.
"""

import json
import math
import pickle
import random
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgpack
import pytest
from flyteidl2.core.interface_pb2 import Parameter, TypedInterface, Variable
from flyteidl2.core.literals_pb2 import Literal
from flyteidl2.core.types_pb2 import LiteralType, SimpleType
from flyteidl2.task.common_pb2 import NamedParameter
from google.protobuf.struct_pb2 import Struct

from passthrough.calls.json_values import translated
from passthrough.http.problems import Problem
from passthrough.limits import DEFAULTS, current_limits, limits
from passthrough.values.budget import Budget, TooComplexError
from passthrough.values.inputs import InvalidInputs, to_literals
from passthrough.values.outputs import to_json
from passthrough.values.schemas import inputs_schema

MUST_NOT_HAPPEN = (
    *("open", "os.", "shutil.", "glob.", "socket.", "urllib.", "subprocess.", "ctypes."),
    *("import", "compile", "exec", "marshal.", "pickle.", "code.", "sqlite3."),
)
happened: list[str] = []
watched = 0
"""The thread that translates: others, such as a local Flyte of other tests, may open files."""


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if watched == threading.get_ident() and event.startswith(MUST_NOT_HAPPEN):
        happened.append(f"{event} {arguments!r:.200}")


sys.addaudithook(_audit)


@contextmanager
def only_data() -> Iterator[None]:
    """Fail if the block does anything but compute."""
    global watched  # noqa: PLW0603
    happened.clear()
    watched = threading.get_ident()
    try:
        yield
    finally:
        watched = 0
    assert happened == []


def interface_of(**inputs: LiteralType) -> TypedInterface:
    made = TypedInterface()
    for name, kind in inputs.items():
        made.inputs.variables.add(key=name, value=Variable(type=kind))
    return made


def as_sent(value: Any) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=False).encode().decode()


PICKLE = pickle.dumps(Path)  # reading it would import pathlib
CODE = '__name__,__import__("os").mkdir("/attacked")'
MEBIBYTE = 2**20


def scalar(**fields: Any) -> Literal:
    return Literal(scalar=fields)


def binary(value: bytes, tag: str = "msgpack") -> Literal:
    return scalar(binary={"value": value, "tag": tag})


def generic(values: dict[str, Any]) -> Literal:
    struct = Struct()
    struct.update(values)
    return scalar(generic=struct)


def deep_list(levels: int) -> Literal:
    return Literal(collection={"literals": [deep_list(levels - 1)] if levels else []})


IN_UNION = scalar(union={"value": binary(PICKLE, "")})

# Literals, and how they are shown: completely, or at least these parts of a reference.
SIZE = len(PICKLE)
LITERALS: dict[str, tuple[Literal, Any]] = {
    "untagged pickle": (binary(PICKLE, ""), {"kind": "pickle", "size": SIZE}),
    "pickle of another tag": (binary(PICKLE, "cloudpickle"), {"kind": "binary", "size": SIZE}),
    "pickle in storage": (
        scalar(blob={"uri": "file:///p", "metadata": {"type": {"format": "PythonPickle"}}}),
        {"kind": "pickle", "uri": "file:///p"},
    ),
    "pickle in a union in a list in a map": (
        Literal(map={"literals": {"k": {"collection": {"literals": [IN_UNION]}}}}),
        {"k": [{"kind": "pickle", "size": SIZE}]},
    ),
    "offloaded file": (
        Literal(offloaded_metadata={"uri": "file:///a", "size_bytes": 7}),
        {"kind": "offloaded", "uri": "file:///a", "size": 7},
    ),
    "schema of a local file": (scalar(schema={"uri": "/etc/passwd"}), {"kind": "schema"}),
    "msgpack 900 levels deep": (binary(b"\x91" * 900 + b"\x01"), {"kind": "too large"}),
    "msgpack that declares 4 Gi items": (binary(b"\xdd\xff\xff\xff\xff"), {"kind": "binary"}),
    "msgpack extension": (binary(msgpack.packb(msgpack.ExtType(5, PICKLE))), {"kind": "binary"}),
    "msgpack with keys of any kind": (
        binary(b"\x84\xc0\x02\xc3\x03\xc4\x01\xff\x04\x91\xc0\x05"),
        {"kind": "map", "entries": [[None, 2], [True, 3], ["/w==", 4], [[None], 5]]},
    ),
    "msgpack with a name twice": (
        binary(b"\x82\x01\x02\xa11\x03"),
        {"kind": "map", "entries": [[1, 2], ["1", 3]]},
    ),
    "lists 40 levels deep": (deep_list(40), {"kind": "too large"}),
    "msgpack text that is no UTF-8": (binary(b"\xa2\xff\xfe"), "\ufffd\ufffd"),
    "struct with NaN": (
        generic({"a": math.nan, "b": -math.inf, "c": math.inf, "d": 3.0, "e": 2.0**60, "f": -0.0}),
        {"a": "NaN", "b": "-Infinity", "c": "Infinity", "d": 3, "e": 2.0**60, "f": -0.0},
    ),
    "time beyond time": (
        scalar(primitive={"datetime": {"seconds": 2**62, "nanos": -1}}),
        {"kind": "datetime", "seconds": 2**62},
    ),
    "duration beyond time": (
        scalar(primitive={"duration": {"seconds": -(2**62), "nanos": -5}}),
        f"-P{2**62 // 86_400}DT{2**62 % 86_400}.000000005S",
    ),
}


@pytest.fixture(autouse=True, scope="module")
def whatever_is_imported_once_is_imported() -> None:
    kind = LiteralType(simple=SimpleType.DURATION)
    inputs_schema(interface_of(a=kind), (), Budget())
    to_json(to_literals({"a": "PT1S"}, {"a": kind}, (), Budget()).items())


@pytest.mark.parametrize("name", LITERALS)
def test_a_hostile_literal_is_shown_without_side_effects(name: str) -> None:
    literal, expected = LITERALS[name]
    default = NamedParameter(name="a", parameter=Parameter(default=literal))
    with only_data():
        shown = to_json([("a", literal)])["a"]
    with only_data():
        schema = inputs_schema(interface_of(a=SIMPLE), [default], Budget())
    assert len(as_sent([shown, schema])) < 4 * MEBIBYTE
    assert schema["required"] == []
    if isinstance(expected, dict) and "kind" in expected:
        assert expected.items() <= shown.items()
    else:
        assert repr(shown) == repr(expected)


def test_the_total_work_on_shown_literals_is_limited() -> None:
    large = binary(msgpack.packb([{}] * 600))
    shown = to_json([(name, large) for name in "abc"], Budget(1000))
    too_large = {"kind": "too large", "size": large.ByteSize()}
    assert shown == {"a": [{}] * 600, "b": too_large, "c": too_large}
    unread = to_json([("a", binary(b"\xc1" * 64_000))], Budget(1000))["a"]  # is no msgpack
    assert unread["kind"] == "too large"
    text = to_json([("a", generic({"text": "x" * 64_000}))], Budget(1000))["a"]
    assert text["kind"] == "too large"


@pytest.mark.anyio
async def test_large_values_are_translated_in_a_thread_with_the_limits_of_the_app() -> None:
    strict = replace(DEFAULTS, levels=3)
    token = current_limits.set(strict)
    for size, is_here in ((60_000, True), (2**20, False)):
        literals = [("a", binary(msgpack.packb("a" * size)))]

        def shown(budget: Budget, literals: Any = literals) -> Any:
            return to_json(literals, budget), threading.get_ident(), limits()

        made, thread, found = await translated(shown)
        assert (made, found) == ({"a": "a" * size}, strict)
        assert (thread == threading.get_ident()) == is_here
    with pytest.raises(TooComplexError):
        await translated(lambda budget: budget.spend(4))
    current_limits.reset(token)


def struct(schema: dict[str, Any]) -> LiteralType:
    made = LiteralType(simple=SimpleType.STRUCT)
    made.metadata.update(schema)
    return made


def listed(kind: LiteralType, levels: int = 1) -> LiteralType:
    for _ in range(levels):
        kind = LiteralType(collection_type=kind)
    return kind


def doubling(levels: int, leaf: Any) -> LiteralType:
    """Make unions that are 2 ** levels times as large when their references are resolved."""
    names = [f"L{level}" for level in range(levels + 1)]
    made = {name: {"anyOf": [{"$ref": f"#/$defs/{of}"}] * 2} for name, of in pairwise(names)}
    return struct({"$ref": "#/$defs/L0", "$defs": made | {names[-1]: leaf}})


SIMPLE = LiteralType(simple=SimpleType.INTEGER)
LONG_FORMAT = LiteralType(blob={"format": "x" * MEBIBYTE})
NOWHERE = json.loads("""{
    "properties": {"root": {"$ref": "#"}, "file": {"$ref": "file:///etc/passwd", "$id": "/etc"},
                   "url": {"$ref": "http://127.0.0.1:9/"}, "none": {"$ref": "#/$defs/A"}},
    "$defs": {"B": {"$ref": "#/$defs/C"}}, "$ref": 7
}""")
WRONG_FORM = json.loads("""{
    "type": ["object", 7], "title": ["x"], "description": {}, "format": 3, "enum": {}, "items": 5,
    "properties": ["a"], "required": "abc", "propertyNames": [1], "prefixItems": {"0": 1},
    "additionalProperties": "no", "anyOf": [1, null, "x", []], "oneOf": [], "$defs": [1],
    "default": NaN
}""")
BOOLEANS = json.loads("""{
    "properties": {"a": true, "b": false, "c": {"$ref": "#/$defs/A"}, "d": {"items": false},
                   "e": {"items": true, "prefixItems": [true, false]},
                   "f": {"anyOf": [false, true]}},
    "$defs": {"A": true, "B": false}, "additionalProperties": true, "required": [null, true, "z"]
}""")
TYPES: dict[str, LiteralType] = {
    "true and false as schemas": struct(BOOLEANS),
    "title that is code": struct(
        {"properties": {CODE: {"title": CODE, "properties": {"x": {"type": "integer"}}}}}
    ),
    "a union of itself": struct(
        {"$ref": "#/$defs/A", "$defs": {"A": {"anyOf": [{"$ref": "#/$defs/A"}]}}}
    ),
    "list of 10,000 required fields": listed(struct({"required": ["a"] * 10_000})),
    "references to what is not there": struct(NOWHERE),
    "patterns that take for ever": struct(
        {"properties": {"a": {"pattern": "^(a+)+$"}}, "patternProperties": {"^(a+)+$": {}}}
    ),
    "keywords of the wrong form": struct(WRONG_FORM),
    "list of a file of a long format": listed(LONG_FORMAT),
    "an enum of 10,000": listed(
        LiteralType(enum_type={"values": [str(number) for number in range(10_000)]})
    ),
    "unions doubling over 28 levels": doubling(28, {"const": "never"}),
    "list of a union of a large type": listed(
        LiteralType(union_type={"variants": [listed(LONG_FORMAT), SIMPLE]})
    ),
    "enum of 500,000 nothings": LiteralType(enum_type={"values": [""] * 500_000}),
    "nothing": LiteralType(),
    "anything": struct({}),
    "lists 40 levels deep": listed(SIMPLE, 40),
    "integer that says it is an object": LiteralType(
        simple=SimpleType.INTEGER, metadata={"anyOf": [{}], "$ref": "#", "type": "object"}
    ),
}
VALUES: tuple[Any, ...] = (
    1,
    "a" * 60 + "!",
    {"a": "a" * 60 + "!", "__class__": 1},
    {name: [None, {"a": {"b": 1}}] for name in "abcdefg"},
    [1, None, {}, {"a": {"a": 1}}] * 100,
    [{}] * 10_000,
    " " * 500_000 + "1",
    json.loads("[" * 60 + "]" * 60),
    object(),
)


@pytest.mark.parametrize("name", TYPES)
def test_a_hostile_type_is_described_and_takes_any_value_without_side_effects(name: str) -> None:
    kind = TYPES[name]
    interface = interface_of(a=kind)
    with only_data():
        schema = inputs_schema(interface, (), Budget())
    sent = as_sent(schema)
    assert len(sent) < MEBIBYTE
    assert "pattern" not in sent.replace(CODE, "")
    references = {part.split('"')[0] for part in sent.split('"$ref": "#/$defs/')[1:]}
    assert references <= schema.get("$defs", {}).keys()
    assert sent.count('"$ref": "') == sent.count('"$ref": "#/$defs/')
    refused: list[int] = []
    for value in VALUES:
        try:
            with only_data():
                to_literals({"a": value}, {"a": kind}, (), Budget())
        except InvalidInputs as error:
            refused.append(Problem.of_exception(error).status)
    assert {*refused} <= {422}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("list of a file of a long format", ["s3://a"] * 100),
        ("list of a union of a large type", [[]] * 100),
        ("list of 10,000 required fields", [{"a": 1}] * 100),
        ("an enum of 10,000", ["9999"] * 5_000),
        ("unions doubling over 28 levels", "no"),
        ("anything", {"a": json.loads("[" * 31 + "]" * 31)}),
    ],
)
def test_a_value_is_too_large_if_its_type_makes_it_so(name: str, value: Any) -> None:
    with pytest.raises(InvalidInputs, match="too large"):
        to_literals({"a": value}, {"a": TYPES[name]}, (), Budget())


def test_a_union_of_many_types_takes_no_more_work_than_is_counted() -> None:
    kind = LiteralType(union_type={"variants": [{"simple": SimpleType.INTEGER}] * 60_000})
    began = time.process_time()
    made = to_literals({"a": [1] * 20_000}, {"a": LiteralType(collection_type=kind)}, (), Budget())
    assert len(made["a"].collection.literals) == 20_000
    assert time.process_time() - began < 10  # not done today, if each value met all types


def test_a_map_is_shown_in_the_order_of_its_names() -> None:
    names = [f"{number:03}" for number in range(200)]
    shuffled = random.sample(names, len(names))
    literals = dict.fromkeys(shuffled, scalar(primitive={"integer": 1}))
    for literal in (Literal(map={"literals": literals}), generic(dict.fromkeys(shuffled, 1))):
        assert [*to_json([("a", literal)])["a"]] == names


def test_the_audit_hook_detects_attacks() -> None:
    with pytest.raises(AssertionError), only_data():
        pickle.loads(PICKLE)
