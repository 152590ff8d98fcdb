"""Hostile literals and types, and an audit hook: what happens while they are translated.

It checks that nothing is opened, connected to, imported, compiled or unpickled.
"""

import json
import pickle
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from flyteidl2.core.interface_pb2 import TypedInterface, Variable
from flyteidl2.core.literals_pb2 import Literal
from flyteidl2.core.types_pb2 import LiteralType, SimpleType
from google.protobuf.struct_pb2 import Struct, Value

from passthrough.limits import Budget
from passthrough.values.inputs import to_literals
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


@pytest.fixture(autouse=True, scope="module")
def whatever_is_imported_once_is_imported() -> None:
    kind = LiteralType(simple=SimpleType.DURATION)
    inputs_schema(interface_of(a=kind), (), Budget())
    to_json(to_literals({"a": "PT1S"}, {"a": kind}, (), Budget()).items())


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
PARTS = LiteralType(  # as many as possible in its 3 kB
    simple=SimpleType.STRING,
    metadata={"fields": {"x": {"list_value": {"values": [Value()] * 1_500}}}},
)
LONG_FORMAT = LiteralType(blob={"format": "x" * MEBIBYTE})
NOWHERE = json.loads("""{
    "properties": {"root": {"$ref": "#"}, "file": {"$ref": "file:///etc/passwd", "$id": "/etc"},
                   "url": {"$ref": "http://127.0.0.1:9/"}, "none": {"$ref": "#/$defs/A"}},
    "$defs": {"B": {"$ref": "#/$defs/C"}}, "$ref": 7
}""")
WRONG_FORM = json.loads("""{
    "type": ["object", 7], "title": ["x"], "description": {}, "format": 3, "enum": {}, "items": 5,
    "properties": ["a"], "required": "abc", "propertyNames": [1], "prefixItems": {"0": 1},
    "additionalProperties": "no", "anyOf": [1, null, "x", [], {"propertyNames": {"type": [1]}}],
    "oneOf": [], "$defs": [1], "default": NaN
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
    "unions doubling over 28 levels": doubling(28, {"type": "null"}),
    "list of a union of a large type": listed(
        LiteralType(union_type={"variants": [listed(LONG_FORMAT), SIMPLE]})
    ),
    "list of dataframes of 1,500 columns": listed(
        LiteralType(structured_dataset_type={"columns": [{}] * 1_500})
    ),
    "list of a union of a type of many parts": listed(
        LiteralType(union_type={"variants": [PARTS, SIMPLE]})
    ),
    "list of an enum of 10,000 or an integer": listed(
        LiteralType(union_type={"variants": [{"enum_type": {"values": [""] * 10_000}}, SIMPLE]})
    ),
    "union of 50,000 files": LiteralType(union_type={"variants": [{"blob": {}}] * 50_000}),
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
