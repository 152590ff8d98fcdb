"""JSON to literals."""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import date, datetime
from enum import Enum
from typing import Any

import msgpack
from flyte.remote import Artifact
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

from .checking import Checker, Error, Location, parse_duration
from .limits import MAX_DEPTH, MAX_NAMES, Budget, TooComplexError
from .outputs import Reader, Reference, is_pickled
from .schemas import NOTHING, SIMPLE, TYPES, Schema, SchemaBuilder, is_dataclass, is_pickle

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


class Converter(Checker):
    """Converts the inputs of one run. One that does not fit adds an error instead of a literal.

    A value that is not JSON (a date, an enum, a file, a model) is replaced with what the SDK makes
    of it, shown as JSON: then it is checked like any other.

    Args:
        by_sdk: The literals that the SDK has made of such values, by the id of the value.

    Attributes:
        not_json: Such values that are not in ``by_sdk``, each with the name of its input. If there
            are any, the results do not count: have the SDK convert them, and try again.
    """

    def __init__(self, by_sdk: Mapping[int, Literal]) -> None:
        budget = Budget()
        self.not_json: list[tuple[str, Any]] = []
        self._by_sdk, self._name = by_sdk, ""
        self._schemas = SchemaBuilder(budget)
        self._reader = Reader(budget, exact=True)
        super().__init__(self._schemas.definitions, budget)

    def convert(
        self,
        values: Mapping[str, Any],
        kinds: Mapping[str, LiteralType],
        optional: Collection[str] = (),
    ) -> dict[str, Literal]:
        """Convert JSON values to a task's inputs; collect the errors.

        Args:
            values: The inputs by name, as parsed from JSON.
            kinds: The types of the task's inputs.
            optional: Inputs that may be left out.
        """
        if len(kinds) > MAX_NAMES:
            self.fail((), f"the task has more than {MAX_NAMES} inputs")
            return {}
        for name in values:
            if name not in kinds:
                self.fail((name,), "the task has no such input")
        literals = {}
        for self._name, kind in kinds.items():
            name = self._name
            if name not in values:
                if name not in optional:
                    self.fail((name,), "must be given")
                continue
            try:
                schema = self._schemas.of_type(kind)
                literals[name] = self._literal(values[name], kind, schema, (name,), 0)
            except TooComplexError:
                self.fail((name,), f"too large, or nested deeper than {MAX_DEPTH} levels")
        return literals

    def as_json(self, value: Any) -> Any:
        """Return a value as JSON, if it is not.

        Not an enum in a structure: only the task's author knows whether its name is meant there.
        """
        return value if isinstance(value, Enum) else self._known(value)[0]

    def _known(self, value: Any) -> tuple[Any, Literal | None]:
        """Return a value as JSON, with the literal that it comes from if it is not JSON."""
        if type(value) in TYPES or isinstance(value, Reference):
            return value, None
        if isinstance(value, dict):
            return dict(value), None
        if isinstance(value, list) or type(value) is tuple:
            return list(value), None
        if isinstance(value, Artifact):  # its declared type is not used: it may be wrong
            stored = Literal.FromString(value.pb2.spec.value.SerializeToString())
        elif id(value) in self._by_sdk:
            stored = self._by_sdk[id(value)]
        else:
            self.not_json.append((self._name, value))
            return None, None
        shown = self._reader.read(stored)
        return shown[:10] if type(value) is date else shown, stored

    def _literal(
        self, value: Any, kind: LiteralType, schema: Schema, at: Location, depth: int
    ) -> Literal:
        self._spend(depth, 64)  # building a message takes longer than checking a value
        if isinstance(value, Enum) and not self._takes_enum(kind):
            if not isinstance(value, str | int):
                self.fail(at, "cannot be an enum")
                return Literal()
            value = value.value
        literal = self._of_kind(value, kind, schema, at, depth)
        if isinstance(value, Artifact):
            literal.artifact_id.CopyFrom(value.artifact_version_id)
        return literal

    def _of_kind(
        self, value: Any, kind: LiteralType, schema: Schema, at: Location, depth: int
    ) -> Literal:
        which = kind.WhichOneof("type")
        if which == "union_type" and "anyOf" in schema:
            return self._union(value, kind, schema, at, depth)
        value, stored = self._known(value)
        if stored is not None:
            if is_pickled(stored) and is_pickle(kind):
                return stored
            if not _may_be(stored, kind):
                self.fail(at, f"must be of type {schema.get('format', schema.get('type'))}")
                return Literal()
        if isinstance(value, list) and which == "collection_type" and "not" not in schema:
            self.is_within_bounds(value, schema, at)
            of, item_schema = kind.collection_type, schema["items"]
            items = [
                self._literal(item, of, item_schema, (*at, index), depth + 1)
                for index, item in enumerate(value)
            ]
            return Literal(collection=LiteralCollection(literals=items))
        if isinstance(value, dict) and which == "map_value_type" and "not" not in schema:
            of, item_schema = kind.map_value_type, schema["additionalProperties"]
            entries = {
                key: self._literal(item, of, item_schema, (*at, key), depth + 1)
                for key, item in value.items()
                if self.is_text(key, (*at, key))
            }
            return Literal(map=LiteralMap(literals=entries))
        return self._scalar(value, kind, schema, at, depth, is_stored=stored is not None)

    def _scalar(
        self,
        value: Any,
        kind: LiteralType,
        schema: Schema,
        at: Location,
        depth: int,
        *,
        is_stored: bool,
    ) -> Literal:
        which, simple = kind.WhichOneof("type"), kind.simple
        is_struct = simple == SimpleType.STRUCT
        is_message = is_struct and "pb_type" in kind.metadata.fields
        self.is_dataclass = is_struct and is_dataclass(kind)
        self.is_exact = self.is_dataclass or is_stored  # a dataclass's Decimal takes only text
        self.top = 2**53 if is_message else 2**64  # all numbers in a message are floats
        known = schema.get("properties", {}).get("kind", NOTHING)
        if (
            isinstance(value, Reference)
            and which != "simple"
            and value["kind"] == known.get("const")
        ):
            return _stored(value, kind)  # whatever its URI is, it has been stored
        if simple == SimpleType.FLOAT and type(value) is int:
            value = float(value) if abs(value) < 2**1000 else value
        elif simple == SimpleType.DATETIME and isinstance(value, str) and len(value) == 10:
            # A date has the type of a time, unless it is in a union.
            value += "" if kind.structure.tag else "T00:00:00Z"
        plain = self.check(value, schema, at, depth)
        if self.errors:
            return Literal()
        if which == "enum_type":
            return Literal(scalar=Scalar(primitive=Primitive(string_value=plain)))
        if which != "simple":
            self._spend(depth, kind.ByteSize())  # it is copied into the literal
            return _stored({"uri": plain} if isinstance(plain, str) else plain, kind)
        if simple in PRIMITIVES:
            field, parse = PRIMITIVES[simple]
            return Literal(scalar=Scalar(primitive=Primitive(**{field: parse(plain)})))
        if simple == SimpleType.NONE:
            return Literal(scalar=Scalar(none_type=Void()))
        if is_message:
            return Literal(scalar=Scalar(generic=plain))
        return Literal(scalar=Scalar(binary=Binary(value=msgpack.packb(plain), tag="msgpack")))

    def _takes_enum(self, kind: LiteralType) -> bool:
        self._spend(0)
        return kind.HasField("enum_type") or any(map(self._takes_enum, kind.union_type.variants))

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
            if isinstance(value, Enum) and self._takes_enum(kind) and not self._takes_enum(variant):
                continue
            literal, errors = self.attempt(
                self._literal, value, variant, variant_schema, at, depth + 1
            )
            if not errors:
                literal = Literal(scalar=Scalar(union=Union(value=literal, type=variant)))
                fitting.append(literal)
                if _is_primitive(variant) and PRIMITIVES[variant.simple][1] is type(value):
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


def _is_primitive(kind: LiteralType) -> bool:
    return kind.WhichOneof("type") == "simple" and kind.simple in PRIMITIVES


def _may_be(stored: Literal, kind: LiteralType) -> bool:
    """Tell whether a literal is of this type, if that is a primitive one."""
    if not _is_primitive(kind):
        return True
    while stored.scalar.HasField("union"):
        stored = stored.scalar.union.value
    found, field = stored.scalar.primitive.WhichOneof("value"), PRIMITIVES[kind.simple][0]
    return found == field or (found, field) == ("integer", "float_value")


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
