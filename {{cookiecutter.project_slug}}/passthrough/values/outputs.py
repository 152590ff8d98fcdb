"""Converts literals to JSON.

A value that JSON cannot hold becomes a reference, which is an object with a ``kind``. References to
files and dataframes can be inputs of other runs. A number that is a key of a map becomes a text. A
map becomes a reference in two cases:

- Two keys would become the same text, such as 1 and "1".
- A key is neither a text nor a number. For example, the key False would become the text "false". A
  task that gets this map as an input would read the key as True.
"""

import base64
import json
import math
from collections.abc import Collection, Iterable
from typing import Any

import msgpack
from flyteidl2.core.literals_pb2 import Binary, Literal
from flyteidl2.core.types_pb2 import BlobType
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic_core import to_jsonable_python

from ..limits import CHARS_PER_NODE, Budget, TooComplexError


def to_json(
    literals: Iterable[tuple[str, Literal]], budget: Budget | None = None
) -> dict[str, Any]:
    """Convert the inputs or the outputs of a run.

    Args:
        literals: Pairs of a name and a literal.
        budget: The number of nodes that the conversion may read; default: `Limits.max_nodes`.

    Returns:
        The JSON values by name. A value that exceeds the budget becomes the reference
        ``{"kind": "too large", …}``.
    """
    reader = Reader(budget or Budget())
    values: dict[str, Any] = {}
    for name, literal in literals:
        try:
            values[name] = reader.read(literal)
        except TooComplexError:
            values[name] = {"kind": "too large", "size": literal.ByteSize()}
    return values


class Reader:
    """Converts literals, and values in literals, to JSON. A budget limits the work."""

    def __init__(self, budget: Budget) -> None:
        self._spend = budget.spend

    def read(self, literal: Literal, depth: int = 0) -> Any:
        """Return the JSON value of a literal."""
        self._spend(depth)
        holder = literal.scalar if literal.HasField("scalar") else literal
        which = holder.WhichOneof("value")
        value: Any = getattr(holder, which) if which else None
        match which:
            case "collection":
                return [self.read(item, depth + 1) for item in value.literals]
            case "map":
                items = value.literals
                return {key: self.read(items[key], depth + 1) for key in self._sorted(items, depth)}
            case "union":
                return self.read(value.value, depth + 1)
            case "primitive" if kind := value.WhichOneof("value"):
                return self.plain(getattr(value, kind), depth)
            case "generic":
                return self.plain(value, depth)
            case "none_type":
                return None
            case "binary":
                return self._binary(value, depth)
            case "blob":
                kind, name = blob_kind(value.metadata.type), value.metadata.type.format
                return _reference(kind, uri=value.uri, format=name, hash=literal.hash)
            case "structured_dataset":
                name = value.metadata.structured_dataset_type.format
                return _reference("dataframe", uri=value.uri, format=name, hash=literal.hash)
        return _reference("empty" if which in {None, "primitive"} else which)

    def plain(self, value: Any, depth: int = 0) -> Any:
        """Convert a value from msgpack, a protobuf primitive or a protobuf struct."""
        if isinstance(value, Value):  # a struct stores integers as floats
            kind = value.WhichOneof("kind")
            value = None if kind in {None, "null_value"} else getattr(value, kind)
            is_whole = isinstance(value, float) and value.is_integer() and abs(value) < 2**53
            if is_whole and str(value) != "-0.0":
                value = int(value)
        self._spend(depth, len(value) if isinstance(value, str | bytes) else 0)
        match value:
            case None | bool() | int() | str():
                return value
            case float():  # NaN and infinities become texts, as in protobuf's JSON format
                return value if math.isfinite(value) else json.dumps(value)
            case bytes():
                return base64.b64encode(value).decode()
            case Timestamp() | Duration():
                try:
                    if isinstance(value, Timestamp):
                        return value.ToJsonString()
                    # The result is an ISO 8601 text, in which a year has 365 days.
                    return to_jsonable_python(value.ToTimedelta())
                except (ValueError, OverflowError):  # Python's ranges are smaller than Flyte's
                    return _reference("time", seconds=value.seconds)
            case Struct(fields=items):
                names = self._sorted(items, depth)
                return {name: self.plain(items[name], depth + 1) for name in names}
            case ListValue(values=items):
                return [self.plain(item, depth + 1) for item in items]
            case tuple():
                return self._map(value, depth + 1)
            case list():
                return [self.plain(item, depth + 1) for item in value]
        return _reference("binary")  # an extension of msgpack

    def _sorted(self, names: Collection[str], depth: int) -> list[str]:
        """Sort names, because the order in a protobuf map depends on memory addresses."""
        self._spend(depth, CHARS_PER_NODE * len(names))  # before the sort
        return sorted(names)

    def _map(self, pairs: tuple[tuple[Any, Any], ...], depth: int) -> dict[str, Any]:
        """Convert the pairs of a msgpack map. Return a reference if JSON cannot hold the map."""
        named = dict[str, Any]()
        for key, value in pairs:
            name = json.dumps(key) if type(key) in {int, float} else key
            if not isinstance(name, str) or name in named:
                return _reference("map")
            named[self.plain(name, depth)] = self.plain(value, depth)
        return named

    def _binary(self, binary: Binary, depth: int) -> Any:
        size = len(binary.value)
        if binary.tag != "msgpack":
            kind = "pickle" if binary.tag in {"", "pickle"} else "binary"
            return _reference(kind, format=binary.tag, size=size)
        self._spend(depth, size)  # check the size before msgpack creates objects
        containers = Budget()  # a byte of msgpack may become an empty list, which has 64 bytes

        def counted(items: list[Any]) -> list[Any]:
            containers.spend(0)
            return items

        try:
            value = msgpack.unpackb(
                binary.value,
                strict_map_key=False,
                unicode_errors="replace",
                list_hook=counted,
                # A dict would be slow for keys with equal hashes.
                object_pairs_hook=lambda pairs: tuple(counted(pairs)),
                ext_hook=lambda *_: object(),
            )
        except (ValueError, OverflowError, msgpack.UnpackException):
            return _reference("binary", format="msgpack", size=size)
        return self.plain(value, depth)


def _reference(kind: str, **details: str | int) -> dict[str, str | int]:
    return {"kind": kind, **{name: value for name, value in details.items() if value}}


def blob_kind(kind: BlobType) -> str:
    """Return the ``kind`` for a reference to a blob (file, directory or pickle) of this type."""
    if kind.format == "PythonPickle":
        return "pickle"
    return "directory" if kind.dimensionality == BlobType.MULTIPART else "file"
