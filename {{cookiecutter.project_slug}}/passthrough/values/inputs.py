"""JSON to literals.

A value is not changed: the task's own decoder converts it, and refuses what it cannot read. Checked
here is what that decoder would read as another value, such as a text that is no date as a number.
"""

import re
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from enum import Enum
from itertools import islice
from typing import Annotated, Any
from uuid import UUID

import msgpack
from flyteidl2.core.literals_pb2 import Literal
from flyteidl2.core.types_pb2 import LiteralType, SimpleType, StructuredDatasetType
from pydantic import Field, TypeAdapter

from ..limits import MAX_ERRORS, MAX_SHOWN_MEMBERS, MAX_SHOWN_NAME_CHARS
from .budget import COMPARISON, MESSAGE, STEP, TOO_LARGE, Budget, TooComplexError
from .outputs import Reference
from .schemas import INTEGERS, SIMPLE, TYPES, Schema, SchemaBuilder

Location = tuple[str | int, ...]
Error = tuple[Location, str]

TEXT = {"type": "string"}
URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:\S|/")  # the local Flyte stores files in a folder
FORMATS: Mapping[str, Callable[[str], Any]] = {
    "date-time": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "duration": TypeAdapter(timedelta).validate_python,
    "uuid": UUID,
}
"""Parsers of texts; each raises ValueError, or OverflowError."""
MAX_DURATION = timedelta(days=3_652_500)  # of protobuf
STORED_DURATION = Annotated[timedelta, Field(ge=-MAX_DURATION, le=MAX_DURATION)]
A_NUMBER: TypeAdapter[float] = TypeAdapter(bool | float)
PRIMITIVES: Mapping[int, tuple[str, Callable[[Any], Any]]] = {
    SimpleType.INTEGER: ("integer", int),
    SimpleType.FLOAT: ("float_value", float),
    SimpleType.STRING: ("string_value", str),
    SimpleType.BOOLEAN: ("boolean", bool),
    SimpleType.DATETIME: ("datetime", FORMATS["date-time"]),
    SimpleType.DURATION: ("duration", TypeAdapter[timedelta](STORED_DURATION).validate_python),
}
"""The field of ``Primitive`` for each type, and how to make its value of checked JSON."""
EXACT = {int: "integer", float: "float_value", str: "string_value", bool: "boolean"}
"""The field that holds the values of a type of JSON, and no others."""


class InvalidInputs(ValueError):  # noqa: N818
    """The task cannot be run with these inputs.

    Attributes:
        errors: Locations and error messages.
    """

    def __init__(self, errors: Sequence[Error]) -> None:
        super().__init__("; ".join(f"{'.'.join(map(str, at))}: {what}" for at, what in errors))
        self.errors = list(errors)


def unknown_inputs(names: Iterable[str], known: Container[str]) -> list[Error]:
    """Return an error for each name that is no input of the task, at most `MAX_ERRORS`."""
    unknown = islice((name for name in names if name not in known), MAX_ERRORS)
    return [((_valid_start(name),), "the task has no such input") for name in unknown]


def to_literals(
    values: Mapping[str, Any],
    kinds: Mapping[str, LiteralType],
    optional: Collection[str] = (),
    budget: Budget | None = None,
) -> dict[str, Literal]:
    """Convert JSON values, enums, references, and literals of primitives to a task's inputs.

    Args:
        values: The inputs by name.
        kinds: The types of the task's inputs.
        optional: Inputs that may be left out.
        budget: What is left of the work that may be done for these inputs.

    Raises:
        InvalidInputs: With all errors.
    """
    converter, literals = Converter(budget or Budget()), {}
    converter.errors += unknown_inputs(values, kinds)
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
        raise InvalidInputs([(_valid_location(at), what) for at, what in converter.errors])
    return literals


class Converter:
    """Converts the inputs of one run. One that does not fit adds an error instead of a literal.

    Args:
        budget: The work that may be done.

    Attributes:
        errors: Locations and error messages.
    """

    def __init__(self, budget: Budget) -> None:
        self.errors: list[Error] = []
        self._spend = budget.spend
        self._schemas = SchemaBuilder(budget)

    def fail(self, location: Location, message: str) -> None:
        """Record an error at a location, unless there are `MAX_ERRORS`."""
        if len(self.errors) < MAX_ERRORS:
            self.errors.append((location, message))

    def attempt(self, convert: Callable[..., Any], *arguments: Any) -> tuple[Any, list[Error]]:
        """Return the result of a conversion, and its errors instead of recording them."""
        before, self.errors = self.errors, []
        try:
            return convert(*arguments), self.errors
        finally:
            self.errors = before

    def check(self, value: Any, schema: Schema, at: Location, depth: int) -> None:
        """Check a value of any type.

        Raises:
            TooComplexError: When the budget is used up.
        """
        self._spend(depth)
        if "not" in schema:
            self.fail(at, f"cannot be given: {schema.get('description', 'by its schema')}")
        elif "$ref" in schema:
            target = self._schemas.definitions[schema["$ref"].removeprefix("#/$defs/")]
            self.check(value, target, at, depth + 1)
        elif "anyOf" in schema:
            variants = schema["anyOf"]
            length = len(value) if isinstance(value, str) else 0  # all of it is looked at
            self._spend(depth, COMPARISON * len(variants) + length)
            if isinstance(value, str) and _may_be_a_number(value, variants):
                self.fail(at, "may be a member of an enum, or a number")
            elif all(self.attempt(self.check, value, each, at, depth + 1)[1] for each in variants):
                self.fail(at, "matches none of the types of the union")
        elif wrong := self.fault(value, schema):
            self.fail(at, wrong)
        elif isinstance(value, list):
            first, rest = schema.get("prefixItems", []), schema.get("items", {})
            for index, item in enumerate(value):
                of = first[index] if index < len(first) else rest
                self.check(item, of, (*at, index), depth + 1)
        elif isinstance(value, dict):
            self._check_object(value, schema, at, depth)

    def fault(self, value: Any, schema: Schema = TEXT) -> str:
        """Return what is wrong with a value, apart from its items, or an empty text."""
        name, names = TYPES.get(type(value)), schema.get("type")
        names = names if isinstance(names, list) else [names or name or "JSON"]
        fits = name in names or (name == "integer" and "number" in names)
        if not name or not fits:
            return f"must be of type {' or '.join(map(str, names))}"
        members = schema.get("enum", [schema["const"]] if "const" in schema else [])
        text, form = value if isinstance(value, str) else "", schema.get("format", "")
        self._spend(0, len(text) + (COMPARISON + len(text)) * len(members))
        if members and not any(type(value) is type(each) and value == each for each in members):
            shown = [_valid_start(str(each)) for each in members[:MAX_SHOWN_MEMBERS]]
            return f"must be {' or '.join(shown)}"
        if name == "integer" and not -(2**63) <= value < 2**63:
            return "must be an integer of 64 bits"
        if _valid_start(text, len(text)) != text:  # JSON strings may contain lone surrogates
            return "must be Unicode text"
        if name == "string" and form == "uri" and not URI.match(text):
            return "must be of the format uri"
        if name == "string" and form in FORMATS:
            try:
                FORMATS[form](text)
            except (ValueError, OverflowError):
                return f"must be of the format {form}"
            # Digits alone are a number for Pydantic, and Python drops what is below a microsecond.
            if text.isdecimal() or re.search(r"[.,][0-9]{7}", text):
                return f"must be of the format {form}, with signs, and at most microseconds"
        first = schema.get("prefixItems", [])
        if name == "array" and first and "items" not in schema and len(value) != len(first):
            return f"must have {len(first)} items"
        return ""

    def _check_object(self, value: Any, schema: Schema, at: Location, depth: int) -> None:
        """Check the fields. Those that are left out are left to the task, which knows defaults."""
        properties, required = schema.get("properties", {}), schema.get("required", [])
        rest = schema.get("additionalProperties", {})
        self._spend(depth, STEP * (len(required) + len(value)))
        for name in required:
            if name not in value:
                self.fail((*at, name), "must be given")
        for name, item in value.items():
            place = (*at, name)
            if name not in properties and rest is False:
                self.fail(place, "there is no such field")
            elif wrong := self.fault(name):
                self.fail(place, wrong)
            elif "propertyNames" in schema and not re.fullmatch(INTEGERS["pattern"], name):
                self.fail(place, "must be named by an integer, such as 10")
            else:
                self.check(item, properties.get(name, rest), place, depth + 1)

    def convert(self, name: str, value: Any, kind: LiteralType) -> Literal:
        """Convert one input; raise `TooComplexError` when the budget is used up."""
        return self._literal(value, kind, self._schemas.of_type(kind), (name,), 0)

    def _literal(
        self, value: Any, kind: LiteralType, schema: Schema, at: Location, depth: int
    ) -> Literal:
        self._spend(depth, MESSAGE)
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
            return Literal(collection={"literals": items})
        if type(value) is dict and which == "map_value_type" and "not" not in schema:
            of, of_schema = kind.map_value_type, schema["additionalProperties"]
            entries = {}
            for key, item in value.items():
                if wrong := self.fault(key):
                    self.fail((*at, key), wrong)
                else:
                    entries[key] = self._literal(item, of, of_schema, (*at, key), depth + 1)
            return Literal(map={"literals": entries})
        if isinstance(value, Reference) and which in {"blob", "structured_dataset_type"}:
            value = dict(value)
        if kind.simple == SimpleType.FLOAT and type(value) is int and abs(value) < 2**1000:
            value = float(value)  # it overflows from 2**1024 on; what is larger is refused below
        if isinstance(value, Literal):  # the app's own, such as a time; of another type, it fails
            field, _ = PRIMITIVES.get(kind.simple, ("", None))
            if value.scalar.primitive.WhichOneof("value") == field:
                return value
        _, errors = self.attempt(self.check, value, schema, at, depth)
        return self._fail_all(errors) if errors else self._scalar(value, kind, at, depth)

    def _scalar(self, value: Any, kind: LiteralType, at: Location, depth: int) -> Literal:
        which, simple = kind.WhichOneof("type"), kind.simple
        if which == "enum_type":
            return Literal(scalar={"primitive": {"string_value": value}})
        if which != "simple":
            self._spend(depth, kind.ByteSize())  # it is copied into the literal
            return _literal_of_stored({"uri": value} if isinstance(value, str) else value, kind)
        if simple == SimpleType.NONE:
            return Literal(scalar={"none_type": {}})
        if simple not in PRIMITIVES:
            return Literal(scalar={"binary": {"value": msgpack.packb(value), "tag": "msgpack"}})
        field, parse = PRIMITIVES[simple]
        try:
            return Literal(scalar={"primitive": {field: parse(value)}})
        except (ValueError, OverflowError):
            return self._fail_all([(at, f"must be of the format {SIMPLE[simple]['format']}")])

    def _fail_all(self, errors: Sequence[Error]) -> Literal:
        for location, message in errors:
            self.fail(location, message)
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
            # It is copied into the literal and, at half the cost, with it into each one around.
            self._spend(depth, variant.ByteSize() * (2 + depth) // 2)
            literal, errors = self.attempt(
                self._literal, value, variant, variant_schema, at, depth + 1
            )
            if not errors:
                literal = Literal(scalar={"union": {"value": literal, "type": variant}})
                fitting.append(literal)
                field, _ = PRIMITIVES.get(variant.simple, ("", None))
                if EXACT.get(type(value)) == field:
                    return literal
            elif variant_schema != SIMPLE[SimpleType.NONE]:
                wrong.append(errors)
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            wrong = [[(at, f"matches {len(fitting)} types of the union: ambiguous")]]
        elif len(wrong) != 1:
            wrong = [[(at, "matches none of the types of the union")]]
        return self._fail_all(wrong[0])


def _may_be_a_number(text: str, variants: Sequence[Schema]) -> bool:
    """Tell whether a model would read a text as a number, in a union with an enum of any values."""
    others = [each for each in variants if "$ref" not in each]
    if TEXT in others or others == [*variants]:
        return False
    if all(each.get("type") == "null" for each in others):
        return False
    try:
        A_NUMBER.validate_python(text)
    except ValueError:
        return False
    return True


def _valid_start(text: str, longest: int = MAX_SHOWN_NAME_CHARS) -> str:
    return text[:longest].encode("utf-8", "replace").decode()


def _valid_location(location: Location) -> Location:
    return tuple(part if type(part) is int else _valid_start(str(part)) for part in location)


def _literal_of_stored(given: Mapping[str, str], kind: LiteralType) -> Literal:
    """Make a file, a folder or a dataframe, which is stored elsewhere."""
    name = given.get("format", "")
    if kind.WhichOneof("type") == "blob":
        of = {"format": name or kind.blob.format, "dimensionality": kind.blob.dimensionality}
        scalar: Any = {"blob": {"uri": given["uri"], "metadata": {"type": of}}}
    else:
        table = StructuredDatasetType(format=name)
        table.MergeFrom(kind.structured_dataset_type)  # a declared format comes first
        metadata = {"structured_dataset_type": table}
        scalar = {"structured_dataset": {"uri": given["uri"], "metadata": metadata}}
    return Literal(scalar=scalar, hash=given.get("hash"))
