"""Literals to JSON."""

import base64
import json
import math
from collections.abc import Iterable
from typing import Any

import msgpack
from flyteidl2.core.literals_pb2 import Binary, Literal, Scalar
from flyteidl2.core.types_pb2 import BlobType
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from .limits import Budget, TooComplexError

PICKLE_FORMAT = "PythonPickle"


class Reference(dict[str, Any]):
    """Stands for a value that JSON cannot hold. It is no input but for a file or a dataframe."""


class _Pairs(list[tuple[Any, Any]]):
    """A map as a list of pairs: a dict would hash keys, which an attacker can make collide."""


def to_json(literals: Iterable[tuple[str, Literal]]) -> dict[str, Any]:
    """Convert the inputs or outputs of a run.

    Args:
        literals: At most `MAX_NAMES` pairs of a name and a literal.

    Returns:
        Values by name, which any JSON encoder accepts.
    """
    reader = Reader(Budget())
    shown: dict[str, Any] = {}
    for name, literal in literals:
        try:
            shown[reader.text(name)] = reader.read(literal)
        except TooComplexError:
            shown[name[:100]] = {"kind": "too large", "size": literal.ByteSize()}
    return shown


class Reader:
    """Converts literals, and what they consist of, to JSON.

    Args:
        budget: The work that may be done. `TooComplexError` is raised when it is used up.
        exact: Whether to keep NaN and the infinities, which JSON cannot hold, as floats.
    """

    def __init__(self, budget: Budget, *, exact: bool = False) -> None:
        self._spend = budget.spend
        self._exact = exact

    def text(self, value: str) -> str:
        """Return a text, which costs as much as it is long."""
        self._spend(0, len(value))
        return value

    def read(self, literal: Literal, depth: int = 0) -> Any:
        """Convert one literal, at this depth of nesting."""
        self._spend(depth)
        match literal.WhichOneof("value"):
            case "scalar":
                return self._scalar(literal, literal.scalar, depth)
            case "collection":
                return [self.read(item, depth + 1) for item in literal.collection.literals]
            case "map":
                items = literal.map.literals
                return {self.text(key): self.read(items[key], depth + 1) for key in items}
            case "offloaded_metadata":
                offloaded = literal.offloaded_metadata
                return self._reference("offloaded", uri=offloaded.uri, size=offloaded.size_bytes)
        return self._reference("empty")

    def plain(self, value: Any, depth: int = 0) -> Any:
        """Convert a value of msgpack, or of a primitive or a struct of protobuf."""
        self._spend(depth)
        if isinstance(value, Value):  # all its numbers are floats; whole ones become integers
            kind = value.WhichOneof("kind")
            value = None if kind in {None, "null_value"} else getattr(value, kind)
            if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
                return int(value)
        match value:
            case None | bool() | int():
                return value
            case float():  # NaN and the infinities as in protobuf's JSON format
                if self._exact or math.isfinite(value):
                    return value
                return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
            case str():
                return self.text(value)
            case bytes():
                self._spend(depth, len(value))
                return base64.b64encode(value).decode()
            case Timestamp():
                try:
                    return value.ToJsonString()
                except ValueError:  # before the year 1, after 9999
                    return {"kind": "datetime", "seconds": value.seconds, "nanos": value.nanos}
            case Duration():
                nanos = value.seconds * 10**9 + value.nanos
                seconds, fraction = divmod(abs(nanos), 10**9)
                point = f".{fraction:09}".rstrip("0") if fraction else ""
                return f"{'-' if nanos < 0 else ''}PT{seconds}{point}S"
            case Struct(fields=fields):
                return {self.text(key): self.plain(fields[key], depth + 1) for key in fields}
            case ListValue(values=items):
                return [self.plain(item, depth + 1) for item in items]
            case _Pairs():
                pairs = [[self.plain(part, depth + 1) for part in pair] for pair in value]
                shown = {k if isinstance(k, str) else json.dumps(k): item for k, item in pairs}
                return shown if len(shown) == len(pairs) else pairs  # 1 and "1" are two keys
            case list():
                return [self.plain(item, depth + 1) for item in value]
            case msgpack.ExtType():
                return self._reference("binary", format=f"ext {value.code}", size=len(value.data))
        return self._reference("binary", format="timestamp")

    def _reference(self, kind: str, **details: str | int) -> Reference:
        known = {name: value for name, value in details.items() if value}
        self._spend(0, sum(len(str(value)) for value in known.values()))
        return Reference({"kind": kind, **known})

    def _scalar(self, literal: Literal, scalar: Scalar, depth: int) -> Any:
        which = scalar.WhichOneof("value")
        value: Any = getattr(scalar, which) if which else None
        match which:
            case "primitive" if kind := value.WhichOneof("value"):
                return self.plain(getattr(value, kind), depth)
            case "none_type":
                return None
            case "union":
                shown = self.read(value.value, depth + 1)
                is_date = value.type.structure.tag == "date"
                return shown[:10] if is_date and isinstance(shown, str) else shown
            case "binary":
                return self._binary(value, depth)
            case "generic" if literal.metadata.get("format") == "pickle":
                uri = value.fields.get("pickle_file", Value()).string_value
                return self._reference("pickle", uri=uri)
            case "generic":
                return self.plain(value, depth)
            case "blob":
                kind, name = blob_kind(value.metadata.type), value.metadata.type.format
                return self._reference(kind, uri=value.uri, format=name, hash=literal.hash)
            case "structured_dataset":
                name = value.metadata.structured_dataset_type.format
                return self._reference("dataframe", uri=value.uri, format=name, hash=literal.hash)
            case "schema":
                return self._reference("schema", uri=value.uri)
            case "error":
                return self._reference("error", message=value.message)
        return self._reference("empty")

    def _binary(self, binary: Binary, depth: int) -> Any:
        size = len(binary.value)
        if binary.tag != "msgpack":
            kind = "pickle" if binary.tag in {"", "pickle"} else "binary"
            return self._reference(kind, format=binary.tag, size=size)
        self._spend(depth, size)
        containers = Budget()  # msgpack calls back for each one while the event loop is blocked

        def counted(made: Any) -> Any:
            containers.spend(0)
            return made

        try:
            value = msgpack.unpackb(
                binary.value,
                strict_map_key=False,
                unicode_errors="replace",
                ext_hook=msgpack.ExtType,
                object_pairs_hook=lambda pairs: counted(_Pairs(pairs)),
                list_hook=counted,
            )
        except TooComplexError:
            raise
        except (ValueError, OverflowError, msgpack.UnpackException):
            return self._reference("binary", format="msgpack", size=size)
        return self.plain(value, depth)


def is_pickled(literal: Literal) -> bool:
    """Tell whether a literal is a pickle."""
    binary = literal.scalar.binary
    return bool(binary.value) and binary.tag in {"", "pickle"}


def blob_kind(kind: BlobType) -> str:
    """Return the kind of a blob, as used in references."""
    if kind.format == PICKLE_FORMAT:
        return "pickle"
    return "directory" if kind.dimensionality == BlobType.MULTIPART else "file"
