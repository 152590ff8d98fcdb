"""JSON to literals."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgpack
from flyteidl2.core.literals_pb2 import (
    Binary,
    Blob,
    BlobMetadata,
    Literal,
    LiteralCollection,
    LiteralMap,
    Primitive,
    Scalar,
    StructuredDataset,
    StructuredDatasetMetadata,
    Union,
    Void,
)
from flyteidl2.core.types_pb2 import LiteralType, SimpleType
from pydantic_core import to_jsonable_python

from .checking import Checker, Error, Location, is_date, parse_duration
from .limits import MAX_DEPTH, MAX_NAMES, Budget, TooComplexError
from .schemas import Schema, SchemaBuilder, is_pickle

DATACLASS_TAGS = {"", "Object-Dataclass-Transformer"}
SIMPLE_OF_TYPE: Mapping[type, int] = {
    type(None): SimpleType.NONE,
    bool: SimpleType.BOOLEAN,
    int: SimpleType.INTEGER,
    float: SimpleType.FLOAT,
    str: SimpleType.STRING,
}
PRIMITIVES: Mapping[int, tuple[str, Callable[[Any], Any]]] = {
    SimpleType.INTEGER: ("integer", int),
    SimpleType.FLOAT: ("float_value", float),
    SimpleType.STRING: ("string_value", str),
    SimpleType.BOOLEAN: ("boolean", bool),
    SimpleType.DATETIME: ("datetime", datetime.fromisoformat),
    SimpleType.DURATION: ("duration", parse_duration),
}
"""The field of ``Primitive`` for each type, and how to make its value of checked JSON."""


class InvalidInputs(ValueError):  # noqa: N818
    """The task cannot be run with these inputs.

    Attributes:
        errors: Locations and error messages.
    """

    def __init__(self, errors: Sequence[Error]) -> None:
        super().__init__("; ".join(f"{'.'.join(map(str, at))}: {what}" for at, what in errors))
        self.errors = list(errors)


def to_literals(
    values: Mapping[str, Any], kinds: Mapping[str, LiteralType], optional: Collection[str] = ()
) -> dict[str, Literal]:
    """Convert JSON values to a task's inputs, as the SDK would.

    Args:
        values: The inputs by name, as parsed from JSON, or `Own` values.
        kinds: The types of the task's inputs.
        optional: Inputs that may be left out.

    Raises:
        InvalidInputs: If they do not fit the schema from `inputs_schema`; with all errors.
    """
    if len(kinds) > MAX_NAMES:
        raise InvalidInputs([((), f"the task has more than {MAX_NAMES} inputs")])
    converter = _Converter()
    for name in values:
        if name not in kinds:
            converter.fail((name,), "the task has no such input")
    literals = {}
    for name, kind in kinds.items():
        if name in values:
            literals[name] = converter.convert(values[name], kind, name)
        elif name not in optional:
            converter.fail((name,), "must be given")
    if converter.errors:
        raise InvalidInputs(converter.errors)
    return literals


@dataclass(frozen=True)
class Own:
    """A value that the app itself made and that is not JSON: a date, an enum, a file, a model."""

    value: Any
    kind: LiteralType
    literal: Literal

    def fits(self, kind: LiteralType) -> bool:
        """Tell whether the value fits an input of this type."""
        own, binary = self.kind, self.literal.scalar.binary
        if kind.WhichOneof("type") == "union_type":
            return is_pickle(kind) and bool(binary.value) and binary.tag in {"", "pickle"}
        return (
            own.WhichOneof("type") == kind.WhichOneof("type")
            and own.simple == kind.simple
            and own.blob.dimensionality == kind.blob.dimensionality
        )

    def __reduce__(self) -> Any:
        """Refuse to be pickled, as an item of a list of ``Any``: the task could not read it."""
        raise TypeError("not for pickles")

    def as_json(self) -> Any:
        """Return the value as pydantic serialises it, for an input without a more specific type."""
        return to_jsonable_python(self.value)


class _Converter(Checker):
    """Converts the inputs of one run. One that does not fit adds an error instead of a literal."""

    def __init__(self) -> None:
        self._schemas = SchemaBuilder()
        super().__init__(self._schemas.definitions, Budget())

    def convert(self, value: Any, kind: LiteralType, name: str) -> Literal:
        """Convert one input."""
        try:
            return self._literal(value, kind, self._schemas.of_type(kind), (name,), 0)
        except TooComplexError:
            self.fail((name,), f"too large, or nested deeper than {MAX_DEPTH} levels")
            return Literal()

    def _literal(
        self, value: Any, kind: LiteralType, schema: Schema, at: Location, depth: int
    ) -> Literal:
        self._budget.spend(depth, 32)  # building a message takes longer than checking a value
        if isinstance(value, Own):
            return self._own(value, kind, schema, at, depth)
        if "not" in schema:
            self.fail(at, f"cannot be given: {schema['description']}")
            return Literal()
        match kind.WhichOneof("type"):
            case "union_type":
                return self._union(value, kind, schema, at, depth)
            case "collection_type" if isinstance(value, list):
                self.is_within_bounds(value, schema, at)
                item_kind, item_schema = kind.collection_type, schema["items"]
                items = [
                    self._literal(item, item_kind, item_schema, (*at, index), depth + 1)
                    for index, item in enumerate(value)
                ]
                return Literal(collection=LiteralCollection(literals=items))
            case "map_value_type" if isinstance(value, dict):
                item_kind, item_schema = kind.map_value_type, schema["additionalProperties"]
                entries = {
                    key: self._literal(item, item_kind, item_schema, (*at, key), depth + 1)
                    for key, item in value.items()
                    if self.is_text(key, (*at, key))
                }
                return Literal(map=LiteralMap(literals=entries))
        return self._scalar(value, kind, schema, at, depth)

    def _own(
        self, own: Own, kind: LiteralType, schema: Schema, at: Location, depth: int
    ) -> Literal:
        if own.fits(kind):
            return own.literal
        if kind.WhichOneof("type") == "union_type" and not is_pickle(kind):
            literal = self._union(own, kind, schema, at, depth)
        else:
            literal = self._literal(own.as_json(), kind, schema, at, depth)
        if own.literal.HasField("artifact_id"):
            literal.artifact_id.CopyFrom(own.literal.artifact_id)
        return literal

    def _scalar(
        self, value: Any, kind: LiteralType, schema: Schema, at: Location, depth: int
    ) -> Literal:
        tag = kind.structure.tag
        self.is_dataclass = tag in DATACLASS_TAGS
        if not tag and is_date(value) and schema.get("format") == "date-time":
            value += "T00:00:00Z"  # a date has the type of a datetime, unless it is in a union
        plain = self.check(value, schema, at, depth)
        if self.errors:
            return Literal()
        match kind.WhichOneof("type"):
            case "simple":
                return Literal(scalar=_simple(plain, kind))
            case "enum_type":
                return Literal(scalar=Scalar(primitive=Primitive(string_value=plain)))
        self._budget.spend(depth, kind.ByteSize())  # it is copied into the literal
        return _stored({"uri": plain} if isinstance(plain, str) else plain, kind)

    def _union(
        self, value: Any, kind: LiteralType, schema: Schema, at: Location, depth: int
    ) -> Literal:
        """Choose the variant of a union as the SDK does.

        This is the variant with the value's exact type, or else the only one that accepts it.
        """
        fitting: list[tuple[LiteralType, Literal]] = []
        wrong: list[list[Error]] = []
        for variant, variant_schema in zip(kind.union_type.variants, schema["anyOf"], strict=True):
            self._budget.spend(depth, variant.ByteSize())  # it is copied into the literal
            literal, errors = self.attempt(
                self._literal, value, variant, variant_schema, at, depth + 1
            )
            simple = variant.simple if variant.WhichOneof("type") == "simple" else None
            if not errors:
                fitting.append((variant, literal))
                if simple == SIMPLE_OF_TYPE.get(type(value), -1):
                    fitting = fitting[-1:]
                    break
            elif simple != SimpleType.NONE:
                wrong.append(errors)
        if len(fitting) == 1:
            chosen, literal = fitting[0]
            union = Union(value=literal, type=chosen)
            if chosen.simple != SimpleType.STRUCT:
                union.type.ClearField("metadata")  # bounds: the SDK leaves them out
            return Literal(scalar=Scalar(union=union))
        if fitting:
            self.fail(at, f"matches {len(fitting)} types of the union: ambiguous")
        elif len(wrong) == 1:
            for location, message in wrong[0]:
                self.fail(location, message)
        else:
            self.fail(at, "matches none of the types of the union")
        return Literal()


def _simple(plain: Any, kind: LiteralType) -> Scalar:
    if kind.simple in PRIMITIVES:
        field, parse = PRIMITIVES[kind.simple]
        return Scalar(primitive=Primitive(**{field: parse(plain)}))
    if kind.simple == SimpleType.NONE:
        return Scalar(none_type=Void())
    if "pb_type" in kind.metadata.fields:  # a protobuf message
        return Scalar(generic=plain)
    return Scalar(binary=Binary(value=msgpack.packb(plain), tag="msgpack"))


def _stored(given: Mapping[str, str], kind: LiteralType) -> Literal:
    """Make a file, a folder or a dataframe, which is stored elsewhere."""
    uri, name = given["uri"], given.get("format", "")
    if kind.WhichOneof("type") == "blob":
        blob = Blob(uri=uri, metadata=BlobMetadata(type=kind.blob))
        blob.metadata.type.format = name or kind.blob.format
        return Literal(scalar=Scalar(blob=blob), hash=given.get("hash"))
    metadata = StructuredDatasetMetadata(structured_dataset_type=kind.structured_dataset_type)
    metadata.structured_dataset_type.format = kind.structured_dataset_type.format or name
    dataset = StructuredDataset(uri=uri, metadata=metadata)
    return Literal(scalar=Scalar(structured_dataset=dataset), hash=given.get("hash"))
