"""Literals to JSON."""

import base64
import json
import math
from collections.abc import Iterable
from typing import Any

import msgpack
from flyteidl2.core.literals_pb2 import Binary, Literal, Primitive
from flyteidl2.core.types_pb2 import BlobType
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from .limits import MAX_NAMES, Budget, TooComplexError

PICKLE_FORMAT = "PythonPickle"


def to_json(literals: Iterable[tuple[str, Literal]]) -> dict[str, Any]:
    """Convert the inputs or outputs of a run.

    Args:
        literals: Pairs of a name and a literal.

    Returns:
        Values by name, which any JSON encoder accepts.
    """
    budget = Budget()
    shown: dict[str, Any] = {}
    for number, (name, literal) in enumerate(literals):
        if number == MAX_NAMES:
            shown["..."] = {"kind": "too large"}
            break
        try:
            budget.spend(0, len(name))
            shown[name] = literal_to_json(literal, budget)
        except TooComplexError:
            shown[name[:100]] = {"kind": "too large", "size": literal.ByteSize()}
    return shown


def literal_to_json(literal: Literal, budget: Budget, depth: int = 0) -> Any:
    """Convert one literal.

    Raises:
        TooComplexError: When the budget is used up.
    """
    budget.spend(depth)
    match literal.WhichOneof("value"):
        case "scalar":
            return _scalar(literal, budget, depth)
        case "collection":
            items = literal.collection.literals
            return [literal_to_json(item, budget, depth + 1) for item in items]
        case "map":
            return {
                _text(key, budget): literal_to_json(item, budget, depth + 1)
                for key, item in literal.map.literals.items()
            }
        case "offloaded_metadata":
            offloaded = literal.offloaded_metadata
            return _reference("offloaded", budget, uri=offloaded.uri, size=offloaded.size_bytes)
    return _reference("empty", budget)


def _scalar(literal: Literal, budget: Budget, depth: int) -> Any:
    scalar = literal.scalar
    match scalar.WhichOneof("value"):
        case "primitive":
            return _primitive(scalar.primitive, budget)
        case "none_type":
            return None
        case "union":
            shown = literal_to_json(scalar.union.value, budget, depth + 1)
            is_date = scalar.union.type.structure.tag == "date"
            return shown[:10] if is_date and isinstance(shown, str) else shown
        case "binary":
            return _binary(scalar.binary, budget, depth)
        case "generic" if literal.metadata.get("format") == "pickle":
            fields = scalar.generic.fields
            return _reference("pickle", budget, uri=fields.get("pickle_file", Value()).string_value)
        case "generic":
            return struct_to_json(scalar.generic, budget, depth)
        case "blob":
            uri, kind = scalar.blob.uri, scalar.blob.metadata.type
            name = blob_kind(kind)
            return _reference(name, budget, uri=uri, format=kind.format, hash=literal.hash)
        case "structured_dataset":
            uri = scalar.structured_dataset.uri
            name = scalar.structured_dataset.metadata.structured_dataset_type.format
            return _reference("dataframe", budget, uri=uri, format=name, hash=literal.hash)
        case "schema":
            return _reference("schema", budget, uri=scalar.schema.uri)
        case "error":
            return _reference("error", budget, message=scalar.error.message)
    return _reference("empty", budget)


def blob_kind(kind: BlobType) -> str:
    """Return the kind of a blob, as used in references."""
    if kind.format == PICKLE_FORMAT:
        return "pickle"
    return "directory" if kind.dimensionality == BlobType.MULTIPART else "file"


def _reference(kind: str, budget: Budget, **details: str | int) -> dict[str, Any]:
    known = {name: value for name, value in details.items() if value}
    budget.spend(0, sum(len(str(value)) for value in known.values()))
    return {"kind": kind, **known}


def _text(value: str, budget: Budget) -> str:
    budget.spend(0, len(value))
    return value


def _primitive(primitive: Primitive, budget: Budget) -> Any:
    match primitive.WhichOneof("value"):
        case "integer":
            return primitive.integer
        case "float_value":
            return _number(primitive.float_value)
        case "string_value":
            return _text(primitive.string_value, budget)
        case "boolean":
            return primitive.boolean
        case "datetime":
            return _datetime(primitive.datetime)
        case "duration":
            return _duration(primitive.duration)
    return _reference("empty", budget)


def _number(value: float) -> float | str:
    """Return a number; NaN and infinities become strings, as in protobuf's JSON format."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _datetime(at: Timestamp) -> Any:
    try:
        return at.ToJsonString()
    except ValueError:  # before the year 1, after 9999
        return {"kind": "datetime", "seconds": at.seconds, "nanos": at.nanos}


def _duration(duration: Duration) -> str:
    nanos = duration.seconds * 10**9 + duration.nanos
    seconds, fraction = divmod(abs(nanos), 10**9)
    point = f".{fraction:09}".rstrip("0") if fraction else ""
    return f"{'-' if nanos < 0 else ''}PT{seconds}{point}S"


def struct_to_json(struct: Struct, budget: Budget, depth: int = 0) -> dict[str, Any]:
    """Convert a protobuf struct. All its numbers are floats; whole ones become integers."""
    return {
        _text(key, budget): _struct_value(value, budget, depth + 1)
        for key, value in struct.fields.items()
    }


def _struct_value(value: Value, budget: Budget, depth: int) -> Any:
    budget.spend(depth)
    match value.WhichOneof("kind"):
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() and abs(number) < 2**53 else _number(number)
        case "string_value":
            return _text(value.string_value, budget)
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return struct_to_json(value.struct_value, budget, depth)
        case "list_value":
            items = value.list_value.values
            return [_struct_value(item, budget, depth + 1) for item in items]
    return None


def _binary(binary: Binary, budget: Budget, depth: int) -> Any:
    size = len(binary.value)
    if binary.tag != "msgpack":
        kind = "pickle" if binary.tag in {"", "pickle"} else "binary"
        return _reference(kind, budget, format=binary.tag, size=size)
    budget.spend(depth, size)
    containers = Budget()  # msgpack calls back for each one while the event loop is blocked

    def pairs(found: list[tuple[Any, Any]]) -> _Pairs:
        containers.spend(0)
        return _Pairs(found)

    def items(found: list[Any]) -> list[Any]:
        containers.spend(0)
        return found

    try:
        value = msgpack.unpackb(
            binary.value,
            strict_map_key=False,
            unicode_errors="replace",
            ext_hook=msgpack.ExtType,
            object_pairs_hook=pairs,
            list_hook=items,
        )
    except TooComplexError:
        raise
    except (ValueError, OverflowError, msgpack.UnpackException):
        return _reference("binary", budget, format="msgpack", size=size)
    return _unpacked(value, budget, depth)


class _Pairs(list[tuple[Any, Any]]):
    """A map as a list of pairs: a dict would hash keys, which an attacker can make collide."""


def _unpacked(value: Any, budget: Budget, depth: int) -> Any:
    budget.spend(depth)
    match value:
        case None | bool() | int():
            return value
        case float():
            return _number(value)
        case str():
            return _text(value, budget)
        case bytes():
            budget.spend(depth, len(value))
            return base64.b64encode(value).decode()
        case _Pairs():
            return {
                _key(_unpacked(key, budget, depth + 1)): _unpacked(item, budget, depth + 1)
                for key, item in value
            }
        case list():
            return [_unpacked(item, budget, depth + 1) for item in value]
        case msgpack.ExtType():
            return _reference("binary", budget, format=f"ext {value.code}", size=len(value.data))
    return _reference("binary", budget, format="timestamp")


def _key(shown: Any) -> str:
    """Convert a key to a string, the only kind of key in JSON."""
    return shown if isinstance(shown, str) else json.dumps(shown)
