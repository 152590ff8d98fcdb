"""JSON to literals."""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

import msgpack
from flyteidl2.core.literals_pb2 import (
    Binary,
    Literal,
    LiteralCollection,
    LiteralMap,
    Primitive,
    Scalar,
    Union,
    Void,
)
from flyteidl2.core.types_pb2 import LiteralType, SimpleType
from pydantic import TypeAdapter

from .checking import Checker, Error, Location
from .limits import TOO_LARGE, Budget, TooComplexError
from .outputs import Reference
from .schemas import SIMPLE, Schema, SchemaBuilder

PRIMITIVES: Mapping[int, tuple[str, Callable[[Any], Any]]] = {
    SimpleType.INTEGER: ("integer", int),
    SimpleType.FLOAT: ("float_value", float),
    SimpleType.STRING: ("string_value", str),
    SimpleType.BOOLEAN: ("boolean", bool),
    SimpleType.DATETIME: ("datetime", datetime.fromisoformat),
    SimpleType.DURATION: ("duration", TypeAdapter(timedelta).validate_python),
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
    """Convert JSON values, enums and references to a task's inputs.

    Args:
        values: The inputs by name.
        kinds: The types of the task's inputs.
        optional: Inputs that may be left out.

    Raises:
        InvalidInputs: With all errors.
    """
    converter, literals = Converter(), {}
    for name in values:
        if name not in kinds:
            converter.fail((name,), "the task has no such input")
    for name, kind in kinds.items():
        if name not in values:
            if name not in optional:
                converter.fail((name,), "must be given")
            continue
        try:
            literals[name] = converter.convert(name, values[name], kind)
        except TooComplexError:
            converter.fail((name,), TOO_LARGE)
    if converter.errors:
        raise InvalidInputs(converter.errors)
    return literals


class Converter(Checker):
    """Converts the inputs of one run. One that does not fit adds an error instead of a literal."""

    def __init__(self) -> None:
        budget = Budget()
        self._schemas = SchemaBuilder(budget)
        super().__init__(self._schemas.definitions, budget)

    def convert(self, name: str, value: Any, kind: LiteralType) -> Literal:
        """Convert one input."""
        return self._literal(value, kind, self._schemas.of_type(kind), (name,), 0)

    def _literal(
        self, value: Any, kind: LiteralType, schema: Schema, at: Location, depth: int
    ) -> Literal:
        self._spend(depth, 64)  # building a message takes longer than checking a value
        which = kind.WhichOneof("type")
        if which == "union_type" and "anyOf" in schema:
            return self._union(value, kind, schema, at, depth)
        if isinstance(value, Enum) and (which == "enum_type" or isinstance(value, str)):
            value = value.name if which == "enum_type" else value.value
        if type(value) is list and which == "collection_type" and "not" not in schema:
            items = [
                self._literal(item, kind.collection_type, schema["items"], (*at, i), depth + 1)
                for i, item in enumerate(value)
            ]
            return Literal(collection=LiteralCollection(literals=items))
        if type(value) is dict and which == "map_value_type" and "not" not in schema:
            of, of_schema = kind.map_value_type, schema["additionalProperties"]
            entries = {}
            for key, item in value.items():
                if wrong := self.fault(key):
                    self.fail((*at, key), wrong)
                else:
                    entries[key] = self._literal(item, of, of_schema, (*at, key), depth + 1)
            return Literal(map=LiteralMap(literals=entries))
        if isinstance(value, Reference) and which in {"blob", "structured_dataset_type"}:
            known = schema.get("properties", {"kind": {}})["kind"]
            if value["kind"] == known.get("const"):  # it is stored there, whatever its URI is
                return self._scalar(value, kind, at, depth)
        if kind.simple == SimpleType.FLOAT and type(value) is int and abs(value) < 2**1000:
            value = float(value)
        self.check(value, schema, at, depth)
        return Literal() if self.errors else self._scalar(value, kind, at, depth)

    def _scalar(self, value: Any, kind: LiteralType, at: Location, depth: int) -> Literal:
        which, simple = kind.WhichOneof("type"), kind.simple
        if which == "enum_type":
            return Literal(scalar=Scalar(primitive=Primitive(string_value=value)))
        if which != "simple":
            self._spend(depth, kind.ByteSize())  # it is copied into the literal
            return _stored({"uri": value} if isinstance(value, str) else value, kind)
        if simple == SimpleType.NONE:
            return Literal(scalar=Scalar(none_type=Void()))
        if simple not in PRIMITIVES:
            return Literal(scalar=Scalar(binary=Binary(value=msgpack.packb(value), tag="msgpack")))
        field, parse = PRIMITIVES[simple]
        try:
            return Literal(scalar=Scalar(primitive=Primitive(**{field: parse(value)})))
        except (ValueError, OverflowError):  # a time may be before the year 1 in UTC
            self.fail(at, f"must be of the format {SIMPLE[simple]['format']}")
            return Literal()

    def _union(
        self, value: Any, kind: LiteralType, schema: Schema, at: Location, depth: int
    ) -> Literal:
        """Choose the variant of a union as the SDK does.

        This is the variant with the value's exact type, or else the only one that accepts it.
        """
        fitting: list[Literal] = []
        wrong: list[list[Error]] = []
        for variant, variant_schema in zip(kind.union_type.variants, schema["anyOf"], strict=True):
            self._spend(depth, variant.ByteSize())  # it is copied into the literal
            literal, errors = self.attempt(
                self._literal, value, variant, variant_schema, at, depth + 1
            )
            if not errors:
                literal = Literal(scalar=Scalar(union=Union(value=literal, type=variant)))
                fitting.append(literal)
                if PRIMITIVES.get(variant.simple, ("", None))[1] is type(value):
                    return literal
            elif variant_schema != SIMPLE[SimpleType.NONE]:
                wrong.append(errors)
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            self.fail(at, f"matches {len(fitting)} types of the union: ambiguous")
        elif len(wrong) == 1:
            for location, message in wrong[0]:
                self.fail(location, message)
        else:
            self.fail(at, "matches none of the types of the union")
        return Literal()


def _stored(given: Mapping[str, str], kind: LiteralType) -> Literal:
    """Make a file, a folder or a dataframe, which is stored elsewhere."""
    literal, name = Literal(hash=given.get("hash")), given.get("format", "")
    if kind.WhichOneof("type") == "blob":
        blob = literal.scalar.blob
        blob.uri = given["uri"]
        blob.metadata.type.CopyFrom(kind.blob)
        blob.metadata.type.format = name or kind.blob.format
    else:
        table = literal.scalar.structured_dataset
        table.uri = given["uri"]
        table.metadata.structured_dataset_type.CopyFrom(kind.structured_dataset_type)
        if not kind.structured_dataset_type.format:
            table.metadata.structured_dataset_type.format = name
    return literal
