"""Malicious literals: they stay data."""

import math
import pickle
import random
from typing import Any

import msgpack
import pytest
from flyteidl2.core.interface_pb2 import Parameter
from flyteidl2.core.literals_pb2 import Literal
from flyteidl2.task.common_pb2 import NamedParameter

from passthrough.limits import Budget
from passthrough.values.outputs import to_json
from passthrough.values.schemas import inputs_schema

from .hostile import (
    MEBIBYTE,
    PICKLE,
    SIMPLE,
    as_sent,
    binary,
    generic,
    interface_of,
    only_data,
    scalar,
)


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
        {"kind": "offloaded_metadata"},
    ),
    "schema of a local file": (scalar(schema={"uri": "/etc/passwd"}), {"kind": "schema"}),
    "msgpack 900 levels deep": (binary(b"\x91" * 900 + b"\x01"), {"kind": "too large"}),
    "msgpack that declares 4 Gi items": (binary(b"\xdd\xff\xff\xff\xff"), {"kind": "binary"}),
    "msgpack extension": (binary(msgpack.packb(msgpack.ExtType(5, PICKLE))), {"kind": "binary"}),
    "msgpack with numbers as keys": (
        binary(msgpack.packb({1: 2, -0.5: [], math.nan: 3})),
        {"1": 2, "-0.5": [], "NaN": 3},
    ),
    "msgpack with a boolean as a key": (binary(b"\x81\xc2\x01"), {"kind": "map"}),
    "msgpack with null as a key": (binary(b"\x81\xc0\x01"), {"kind": "map"}),
    "msgpack with bytes as a key": (binary(b"\x81\xc4\x01\xff\x04"), {"kind": "map"}),
    "msgpack with a list as a key": (binary(b"\x81\x91\xc0\x05"), {"kind": "map"}),
    "msgpack with a name twice": (binary(b"\x82\x01\x02\xa11\x03"), {"kind": "map"}),
    "msgpack of keys in keys": (binary(b"\x81" * 28 + b"\x01" * 29), {"kind": "map"}),
    "lists 40 levels deep": (deep_list(40), {"kind": "too large"}),
    "msgpack text that is no UTF-8": (binary(b"\xa2\xff\xfe"), "\ufffd\ufffd"),
    "struct with NaN": (
        generic({"a": math.nan, "b": -math.inf, "c": math.inf, "d": 3.0, "e": 2.0**60, "f": -0.0}),
        {"a": "NaN", "b": "-Infinity", "c": "Infinity", "d": 3, "e": 2.0**60, "f": -0.0},
    ),
    "time beyond time": (
        scalar(primitive={"datetime": {"seconds": 2**62, "nanos": -1}}),
        {"kind": "time", "seconds": 2**62},
    ),
    "duration beyond time": (
        scalar(primitive={"duration": {"seconds": -(2**62), "nanos": -5}}),
        {"kind": "time", "seconds": -(2**62)},
    ),
}


@pytest.mark.parametrize("name", LITERALS)
def test_hostile_literal_has_no_side_effects(name: str) -> None:
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


def test_map_output_is_sorted_by_key() -> None:
    names = [f"{number:03}" for number in range(200)]
    shuffled = random.sample(names, len(names))
    literals = dict.fromkeys(shuffled, scalar(primitive={"integer": 1}))
    for literal in (Literal(map={"literals": literals}), generic(dict.fromkeys(shuffled, 1))):
        assert [*to_json([("a", literal)])["a"]] == names


def test_audit_hook_detects_unpickling() -> None:
    with pytest.raises(AssertionError), only_data():
        pickle.loads(PICKLE)
