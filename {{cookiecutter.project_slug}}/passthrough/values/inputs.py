"""JSON to literals.

A value is not changed: the task's own decoder converts it, and refuses what it cannot read. Checked
here is what that decoder would read as another value, such as a text that is no date as a number.
"""

import re
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from enum import Enum
from itertools import islice
from typing import Any
from uuid import UUID

import msgpack
from flyteidl2.core.literals_pb2 import Literal
from flyteidl2.core.types_pb2 import LiteralType, SimpleType, StructuredDatasetType

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


def _duration(text: str) -> timedelta:
    weeks, days, _, hours, minutes, seconds, _ = re.match(DURATION["pattern"], text).groups()  # type: ignore[union-attr]
    parts = {"weeks": weeks, "days": days, "hours": hours, "minutes": minutes}
    whole, _, fraction = (seconds or "0").rstrip("S").partition(".")
    size = timedelta(seconds=int(whole), microseconds=int(fraction.ljust(6, "0")))
    size += timedelta(**{name: int(part[:-1]) for name, part in parts.items() if part})
    return -size if text.startswith("-") else size


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
LONGEST = timedelta(days=3_652_500)  # of protobuf
PRIMITIVES: Mapping[int, tuple[str, Callable[[Any], Any]]] = {
    SimpleType.INTEGER: ("integer", int),
    SimpleType.FLOAT: ("float_value", float),
    SimpleType.STRING: ("string_value", str),
    SimpleType.BOOLEAN: ("boolean", bool),
    SimpleType.DATETIME: ("datetime", datetime.fromisoformat),
    SimpleType.DURATION: ("duration", _duration),
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
        self._spend, self._spend_on = budget.spend, budget.spend_on
        self._most_errors = limits().errors
        self._schemas = SchemaBuilder(budget)

    def fail(self, location: Location, message: str) -> None:
        """Record an error at a location, unless there are ``Limits.errors``."""
        if len(self.errors) < self._most_errors:
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
        self._spend_on(value, depth)
        if "not" in schema:
            self.fail(at, f"cannot be given: {schema.get('description', 'by its schema')}")
        elif "$ref" in schema:
            target = self._schemas.definitions[schema["$ref"].removeprefix("#/$defs/")]
            self.check(value, target, at, depth + 1)
        elif "anyOf" in schema:
            fitting = (
                variant
                for variant in schema["anyOf"]
                if not self.attempt(self.check, value, variant, at, depth + 1)[1]
            )
            if next(fitting, None) is None:
                self.fail(at, "matches none of the types of the union")
            elif value in NOT_FINITE and next(fitting, None) is not None:
                self.fail(at, "may be a number or a text")
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
        if name == "string" and "number" in names and value in NOT_FINITE:
            return ""
        fits = name in names or (name == "integer" and "number" in names)
        if not name or not fits:
            return f"must be of type {' or '.join(map(str, names))}"
        members = schema.get("enum", [schema["const"]] if "const" in schema else [])
        self._spend(0, (1 + len(value if name == "string" else "")) * len(members))
        if members and not any(type(value) is type(each) and value == each for each in members):
            return f"must be {' or '.join(_valid_start(str(each)) for each in members[:10])}"
        if name == "integer" and not -(2**63) <= value < 2**63:
            return "must be an integer of 64 bits"
        if name == "string":
            return _fault_of_text(value, schema.get("format", ""))
        first = schema.get("prefixItems", [])
        if name == "array" and first and "items" not in schema and len(value) != len(first):
            return f"must have {len(first)} items"
        return ""

    def _check_object(self, value: Any, schema: Schema, at: Location, depth: int) -> None:
        """Check the fields. Those that are left out are left to the task, which knows defaults."""
        properties, required = schema.get("properties", {}), schema.get("required", [])
        rest = schema.get("additionalProperties", {})
        for name in required:
            self._spend(depth)
            if name not in value:
                self.fail((*at, name), "must be given")
        keys = set[str]()
        for name, item in value.items():
            place = (*at, name)
            self._spend_on(name, depth)
            if name not in properties and rest is False:
                self.fail(place, "there is no such field")
                continue
            if wrong := self.fault(name):
                self.fail(place, wrong)
                continue
            key = name if properties else _key(name)
            if "propertyNames" in schema and not re.fullmatch(INTEGERS["pattern"], name):
                self.fail(place, "must be named by an integer, such as 10")
            elif key in keys:
                self.fail(place, "would be the same key as another, if they are numbers")
            else:
                keys.add(key)
                self.check(item, properties.get(name, rest), place, depth + 1)

    def convert(self, name: str, value: Any, kind: LiteralType) -> Literal:
        """Convert one input; raise `TooComplexError` when the budget is used up."""
        return self._literal(value, kind, self._schemas.of_type(kind), (name,), 0)

    def _literal(
        self, value: Any, kind: LiteralType, schema: Schema, at: Location, depth: int
    ) -> Literal:
        which = kind.WhichOneof("type")
        if which == "union_type" and "anyOf" in schema:
            return self._union(value, kind, schema, at, depth)
        if isinstance(value, Enum) and (which == "enum_type" or isinstance(value, str)):
            value = value.name if which == "enum_type" else value.value
        if type(value) is list and which == "collection_type" and "not" not in schema:
            self._spend(depth)
            items = [
                self._literal(item, kind.collection_type, schema["items"], (*at, i), depth + 1)
                for i, item in enumerate(value)
            ]
            return Literal(collection={"literals": items})
        if type(value) is dict and which == "map_value_type" and "not" not in schema:
            self._spend(depth)
            of, of_schema = kind.map_value_type, schema["additionalProperties"]
            entries = {}
            for key, item in value.items():
                self._spend_on(key, depth)
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
            parsed = parse(value)
            if field == "duration" and abs(parsed) > LONGEST:
                raise OverflowError
            return Literal(scalar={"primitive": {field: parsed}})
        except (ValueError, OverflowError):
            form = SIMPLE[simple]["format"]
            return self._fail_all([(at, f"must be of the format {form}, and not beyond all time")])

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
            literal, errors = self.attempt(
                self._literal, value, variant, variant_schema, at, depth + 1
            )
            if not errors:
                self._spend(depth, variant.ByteSize())  # it is copied into the literal
                literal = Literal(scalar={"union": {"value": literal, "type": variant}})
                fitting.append(literal)
                field, _ = PRIMITIVES.get(variant.simple, ("", None))
                if EXACT.get(type(value)) == field and value not in NOT_FINITE:
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


def _fault_of_text(text: str, form: str) -> str:
    if _valid_start(text, len(text)) != text:  # JSON strings may contain lone surrogates
        return "must be Unicode text"
    if form == "uri" and not URI.match(text):
        return "must be of the format uri"
    if form in FORMATS:
        pattern, parse, example = FORMATS[form]
        try:
            if not re.fullmatch(pattern, text, re.ASCII):
                raise ValueError
            parse(text)
        except (ValueError, OverflowError):
            return f"must be of the format {form}, such as {example}"
    return ""


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
