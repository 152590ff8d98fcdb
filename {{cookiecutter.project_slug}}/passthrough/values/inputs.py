"""JSON to literals.

A value is not changed: the task's own decoder converts it, and refuses what it cannot read. Checked
here is what that decoder would read as another value, such as a text that is no date as a number.
"""

import re
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from enum import Enum
from itertools import islice
from typing import Any
from uuid import UUID

import msgpack
from flyteidl2.core.literals_pb2 import Literal
from flyteidl2.core.types_pb2 import BOOLEAN, FLOAT, INTEGER, STRING, LiteralType, SimpleType
from flyteidl2.core.types_pb2 import StructuredDatasetType as TableType
from pydantic import TypeAdapter

from ..limits import limits
from .budget import TOO_LARGE, Budget, TooComplexError
from .outputs import Reference
from .schemas import DURATION, INTEGERS, SIMPLE, TYPES, Schema, SchemaBuilder

Location = tuple[str | int, ...]
Error = tuple[Location, str]

TEXT = {"type": "string"}
URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:\S|/")  # the local Flyte stores files in a folder
NOT_FINITE = ("NaN", "Infinity", "-Infinity")
"""Numbers that JSON does not have, as they are shown and taken."""
LONGEST = timedelta(days=3_652_500)  # of protobuf
DURATIONS = TypeAdapter(timedelta)


def _duration(text: str) -> timedelta:
    if abs(duration := DURATIONS.validate_python(text)) > LONGEST:
        raise OverflowError
    return duration


DAY, TIME = r"\d{4}-\d\d-\d\d", r"\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)?"
FORMATS: Mapping[str, tuple[str, Callable[[str], Any], str]] = {
    "date-time": (f"{DAY}[T ]{TIME}", datetime.fromisoformat, "2026-01-31T09:30:00.250Z"),
    "date": (DAY, date.fromisoformat, "2026-01-31"),
    "time": (TIME, time.fromisoformat, "09:30:00.250"),
    "duration": (DURATION["pattern"], _duration, "P1DT2H30M"),
    "uuid": ("[^_]+", UUID, "0c8f2c3e-2b36-4b5c-9d4c-5d2a8e6f1a77"),
}
"""Patterns of texts that are read in one way only, their parsers, and examples.

Parsers raise ValueError or OverflowError. They alone would not do: Pydantic takes digits for a
number, and Python drops what is below a microsecond."""
PRIMITIVES: Mapping[int, tuple[str, Callable[[Any], Any]]] = {
    INTEGER: ("integer", int),
    FLOAT: ("float_value", float),
    STRING: ("string_value", str),
    BOOLEAN: ("boolean", bool),
    SimpleType.DATETIME: ("datetime", datetime.fromisoformat),
    SimpleType.DURATION: ("duration", _duration),
}
"""The field of ``Primitive`` for each type, and how to make its value of checked JSON."""
EXACT = {int: INTEGER, float: FLOAT, str: STRING, bool: BOOLEAN}


class InvalidInputs(ValueError):  # noqa: N818
    """The task cannot be run with these inputs.

    Attributes:
        errors: Locations and error messages.
    """

    def __init__(self, errors: Sequence[Error]) -> None:
        super().__init__("; ".join(f"{'.'.join(map(str, at))}: {what}" for at, what in errors))
        self.errors = list(errors)


def unknown_inputs(names: Iterable[str], known: Container[str]) -> list[Error]:
    """Return an error for each name that is no input of the task, at most ``Limits.errors``."""
    unknown = islice((name for name in names if name not in known), limits().errors)
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
        budget: The work that may be done.

    Raises:
        InvalidInputs: With all errors, but at most ``Limits.errors``.
    """
    converter, literals = Converter(budget or Budget()), {}
    errors = unknown_inputs(values, kinds)
    for name, kind in kinds.items():
        if name in values:
            try:
                literals[name] = converter.convert(name, values[name], kind, errors)
            except TooComplexError:
                errors.append(((name,), TOO_LARGE))
        elif name not in optional:
            errors.append(((name,), "must be given"))
    if errors:
        first = errors[: limits().errors]
        raise InvalidInputs([(tuple(map(_valid_part, at)), what) for at, what in first])
    return literals


class Converter:
    """Converts the inputs of one run; raises `TooComplexError` when the budget is used up."""

    def __init__(self, budget: Budget) -> None:
        self._spend, self._spend_on = budget.spend, budget.spend_on
        self._most_errors = limits().errors
        self._schemas = SchemaBuilder(budget)

    def convert(self, name: str, value: Any, kind: LiteralType, errors: list[Error]) -> Literal:
        """Convert one input, or add what is wrong with it to the errors."""
        return self._literal(value, kind, self._schemas.of_type(kind), (name,), errors)

    def _literal(
        self, value: Any, kind: LiteralType, schema: Schema, at: Location, errors: list[Error]
    ) -> Literal:
        which = kind.WhichOneof("type")
        if which == "union_type" and "anyOf" in schema:
            return self._union(value, kind, schema, at, errors)
        if isinstance(value, Enum) and (which == "enum_type" or isinstance(value, str)):
            value = value.name if which == "enum_type" else value.value
        if type(value) is list and which == "collection_type" and "items" in schema:
            self._spend(0)
            of, of_schema = kind.collection_type, schema["items"]
            items = [
                self._literal(item, of, of_schema, (*at, index), errors)
                for index, item in enumerate(value)
            ]
            return Literal(collection={"literals": items})
        if type(value) is dict and which == "map_value_type" and "not" not in schema:
            self._spend(0)
            of, of_schema, entries = kind.map_value_type, schema["additionalProperties"], {}
            for key, item in value.items():
                self._spend_on(key)
                if wrong := self._fault(key, TEXT):
                    errors.append(((*at, key), wrong))
                else:
                    entries[key] = self._literal(item, of, of_schema, (*at, key), errors)
            return Literal(map={"literals": entries})
        if isinstance(value, Reference) and which in {"blob", "structured_dataset_type"}:
            value = dict(value)
        if isinstance(value, Literal):  # the app's own, such as a time; of another type, it fails
            field, _ = PRIMITIVES.get(kind.simple, ("", None))
            if value.scalar.primitive.WhichOneof("value") == field:
                return value
        if kind.simple == FLOAT and type(value) is int:
            with suppress(OverflowError):  # a larger one is refused below
                value = float(value)
        wrong_parts = [*islice(self._faults(value, schema, at, len(at)), self._most_errors)]
        if not wrong_parts:
            if which in {"blob", "structured_dataset_type"}:
                self._spend(0, kind.ByteSize())  # it is copied into the literal
            try:
                return _literal_of_checked(value, kind)
            except (ValueError, OverflowError):  # a time that is in the year 10,000 in UTC
                wrong_parts = [(at, _wrong_format(schema["format"]))]
        if len(errors) < self._most_errors:
            errors += wrong_parts
        return Literal()

    def _union(
        self, value: Any, kind: LiteralType, schema: Schema, at: Location, errors: list[Error]
    ) -> Literal:
        """Choose the variant of a union as the SDK does.

        This is the variant with the value's exact type, or else the only one that accepts it.
        """
        fitting: list[Literal] = []
        failed: list[list[Error]] = []
        for variant, variant_schema in zip(kind.union_type.variants, schema["anyOf"], strict=True):
            wrong: list[Error] = []
            literal = self._literal(value, variant, variant_schema, at, wrong)
            if not wrong:
                self._spend(0, variant.ByteSize())  # it is copied into the literal
                fitting.append(Literal(scalar={"union": {"value": literal, "type": variant}}))
                if EXACT.get(type(value)) == variant.simple and value not in NOT_FINITE:
                    return fitting[-1]
            elif variant_schema != SIMPLE[SimpleType.NONE]:
                failed.append(wrong)
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            errors.append((at, f"matches {len(fitting)} types of the union: ambiguous"))
        elif len(failed) == 1:
            errors += failed[0]
        else:
            errors.append((at, "matches none of the types of the union"))
        return Literal()

    def _faults(self, value: Any, schema: Schema, at: Location, depth: int) -> Iterator[Error]:
        """Yield what is wrong with a value of any type."""
        self._spend_on(value, depth)
        if "not" in schema:
            yield at, f"cannot be given: {schema.get('description', 'by its schema')}"
        elif "$ref" in schema:
            target = self._schemas.definitions[schema["$ref"].removeprefix("#/$defs/")]
            yield from self._faults(value, target, at, depth + 1)
        elif "anyOf" in schema:
            variants = schema["anyOf"]
            fitting = (v for v in variants if not any(self._faults(value, v, at, depth + 1)))
            if next(fitting, None) is None:
                yield at, "matches none of the types of the union"
            elif value in NOT_FINITE and next(fitting, None) is not None:
                yield at, "may be a number or a text"
        elif wrong := self._fault(value, schema):
            yield at, wrong
        elif isinstance(value, list):
            first, rest = schema.get("prefixItems", []), schema.get("items", {})
            for index, item in enumerate(value):
                of = first[index] if index < len(first) else rest
                yield from self._faults(item, of, (*at, index), depth + 1)
        elif isinstance(value, dict):
            yield from self._faults_of_fields(value, schema, at, depth)

    def _faults_of_fields(
        self, fields: dict[str, Any], schema: Schema, at: Location, depth: int
    ) -> Iterator[Error]:
        """Yield what is wrong with fields. The task knows the defaults of those left out."""
        properties, rest = schema.get("properties", {}), schema.get("additionalProperties", {})
        for name in schema.get("required", []):
            self._spend(depth)
            if name not in fields:
                yield (*at, name), "must be given"
        keys = set[str]()
        for name, item in fields.items():
            place = (*at, name)
            self._spend_on(name, depth)
            if name not in properties and rest is False:
                yield place, "there is no such field"
            elif wrong := self._fault(name, TEXT):
                yield place, wrong
            elif "propertyNames" in schema and not re.fullmatch(INTEGERS["pattern"], name):
                yield place, "must be named by an integer, such as 10"
            elif (key := name if properties else _key(name)) in keys:
                yield place, "would be the same key as another, if they are numbers"
            else:
                keys.add(key)
                yield from self._faults(item, properties.get(name, rest), place, depth + 1)

    def _fault(self, value: Any, schema: Schema) -> str:
        """Return what is wrong with a value, apart from its items, or an empty text."""
        name, names = TYPES.get(type(value)), schema.get("type")
        names = names if isinstance(names, list) else [names or name or "JSON"]
        if name == "string" and "number" in names and value in NOT_FINITE:
            return ""
        if not name or not (name in names or (name == "integer" and "number" in names)):
            return f"must be of type {' or '.join(map(str, names))}"
        members = schema.get("enum", [schema["const"]] if "const" in schema else [])
        self._spend(0, (1 + len(value if name == "string" else "")) * len(members))
        if members and not any(
            type(value) is type(member) and value == member for member in members
        ):
            return f"must be {' or '.join(_valid_start(str(member)) for member in members[:10])}"
        if name == "integer" and not -(2**63) <= value < 2**63:
            return "must be an integer of 64 bits"
        if name == "string":
            return _fault_of_text(value, schema.get("format", ""))
        first = schema.get("prefixItems", [])
        if name == "array" and first and "items" not in schema and len(value) != len(first):
            return f"must have {len(first)} items"
        return ""


def _fault_of_text(text: str, form: str) -> str:
    if _valid_start(text, len(text)) != text:  # JSON strings may contain lone surrogates
        return "must be Unicode text"
    if form == "uri" and not URI.match(text):
        return "must be of the format uri"
    if form in FORMATS:
        pattern, parse, _ = FORMATS[form]
        try:
            if not re.fullmatch(pattern, text, re.ASCII):
                raise ValueError
            parse(text)
        except (ValueError, OverflowError):
            return _wrong_format(form)
    return ""


def _wrong_format(form: str) -> str:
    return f"must be of the format {form}, such as {FORMATS[form][2]}"


def _key(name: str) -> str:
    """Return a name as a task writes it that has numbers as keys: "1" for "01", "+1" and "1.0"."""
    with suppress(ValueError):
        return str(int(name))
    with suppress(ValueError):
        number = float(name)
        return str(int(number) if number.is_integer() else number)
    return name


def _valid_start(text: str, longest: int = 100) -> str:
    return text[:longest].encode("utf-8", "replace").decode()


def _valid_part(part: object) -> str | int:
    return part if type(part) is int else _valid_start(str(part))


def _literal_of_checked(value: Any, kind: LiteralType) -> Literal:
    match kind.WhichOneof("type"):
        case "enum_type":
            return Literal(scalar={"primitive": {"string_value": value}})
        case "simple" if kind.simple in PRIMITIVES:
            field, parse = PRIMITIVES[kind.simple]
            return Literal(scalar={"primitive": {field: parse(value)}})
        case "simple" if kind.simple == SimpleType.NONE:
            return Literal(scalar={"none_type": {}})
        case "simple":
            return Literal(scalar={"binary": {"value": msgpack.packb(value), "tag": "msgpack"}})
    given = {"uri": value} if isinstance(value, str) else value
    name, stored = given.get("format", ""), {"uri": given["uri"]}
    if kind.HasField("blob"):
        of = {"format": name or kind.blob.format, "dimensionality": kind.blob.dimensionality}
        scalar: Any = {"blob": stored | {"metadata": {"type": of}}}
    else:
        table = TableType(format=name)
        table.MergeFrom(kind.structured_dataset_type)  # a declared format comes first
        metadata = {"structured_dataset_type": table}
        scalar = {"structured_dataset": stored | {"metadata": metadata}}
    return Literal(scalar=scalar, hash=given.get("hash"))
