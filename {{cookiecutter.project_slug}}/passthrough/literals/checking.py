"""Checks JSON values against the part of JSON Schema that `schemas` keeps."""

import base64
import math
import operator
import re
import uuid
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from functools import cache
from typing import Any

from pydantic import TypeAdapter
from pydantic_core import to_jsonable_python

from .limits import Budget
from .schemas import INTEGER_KEYS, TYPES, Schema

Location = tuple[str | int, ...]

MAX_ERRORS = 100
NUMBER_BOUNDS: Mapping[str, tuple[Callable[[float, float], bool], str]] = {
    "minimum": (operator.ge, "at least"),
    "maximum": (operator.le, "at most"),
    "exclusiveMinimum": (operator.gt, "more than"),
    "exclusiveMaximum": (operator.lt, "less than"),
}


class Checker:
    """Checks values, and collects the errors.

    A valid value is returned in the form that the SDK's own encoders produce: with its fields'
    defaults, whole numbers as floats if the schema says so, and dates in a canonical format.

    Attributes:
        errors: Locations and error messages.
        is_dataclass: Whether mashumaro will read the value, not pydantic.
    """

    def __init__(self, definitions: Mapping[str, Schema], budget: Budget) -> None:
        self.errors: list[tuple[Location, str]] = []
        self.is_dataclass = False
        self._definitions = definitions
        self._budget = budget

    def fail(self, location: Location, message: str) -> None:
        """Record an error at a location. Only the first hundred are kept."""
        if len(self.errors) < MAX_ERRORS:
            named = (_printable(part) if isinstance(part, str) else part for part in location)
            self.errors.append((tuple(named), message))

    def check(self, value: Any, schema: Schema, at: Location, depth: int) -> Any:
        """Check a value of any type.

        Raises:
            TooComplexError: When the budget is used up.
        """
        self._budget.spend(depth)
        if hasattr(value, "as_json"):  # made by the app itself
            value = value.as_json()
        if "not" in schema:
            return self.fail(at, "cannot be given")
        if "$ref" in schema:
            target = self._definitions[schema["$ref"].removeprefix("#/$defs/")]
            return self.check(value, target, at, depth + 1)
        if "anyOf" in schema:
            return self._any_of(value, schema["anyOf"], at, depth)
        errors = len(self.errors)
        value = self._of_right_type(value, schema, at)
        if len(self.errors) > errors or not self.is_within_bounds(value, schema, at):
            return None
        match value:
            case str():
                return self._string(value, schema, at)
            case list():
                return self._array(value, schema, at, depth)
            case dict():
                return self._object(value, schema, at, depth)
        return value

    def is_within_bounds(self, value: Any, schema: Schema, at: Location) -> bool:
        """Check a value against the keywords that set bounds."""
        wrong = None
        members = schema.get("enum", [schema["const"]] if "const" in schema else [])
        if members:
            longest = len(value) if isinstance(value, str) else 0
            self._budget.spend(0, (4 + longest) * len(members))
            if not any(_is_same(value, member) for member in members):
                wrong = f"must be {' or '.join(_printable(str(each)) for each in members[:10])}"
        if isinstance(value, int | float) and not isinstance(value, bool):
            for keyword, (fits, words) in NUMBER_BOUNDS.items():
                if keyword in schema and not fits(value, schema[keyword]):
                    wrong = f"must be {words} {schema[keyword]}"
        if isinstance(value, str | list):
            what, unit = ("Length", "characters") if isinstance(value, str) else ("Items", "items")
            if len(value) < schema.get(f"min{what}", 0):
                wrong = f"must have at least {schema[f'min{what}']} {unit}"
            if len(value) > schema.get(f"max{what}", math.inf):
                wrong = f"must have at most {schema[f'max{what}']} {unit}"
        if wrong:
            self.fail(at, wrong)
        return not wrong

    def is_text(self, value: str, at: Location) -> bool:
        """Check that a string can be sent: JSON strings may contain lone surrogates."""
        self._budget.spend(0, len(value))
        try:
            value.encode()
        except UnicodeEncodeError:
            self.fail(at, "must be Unicode text")
            return False
        return True

    def _any_of(self, value: Any, schemas: list[Any], at: Location, depth: int) -> Any:
        """Use the first schema that keeps the value's type, or else the first that it fits."""
        fitting: list[Any] = []
        before = self.errors
        for schema in schemas:
            self.errors = []
            plain = self.check(value, schema, at, depth + 1)
            if not self.errors:
                fitting.append(plain)
                if type(plain) is type(value):
                    break
        self.errors = before
        if not fitting:
            return self.fail(at, "matches none of the types of the union")
        return fitting[-1] if type(fitting[-1]) is type(value) else fitting[0]

    def _of_right_type(self, value: Any, schema: Schema, at: Location) -> Any:
        """Check a value's type; convert a number to an integer or a float if the schema says so."""
        name = TYPES.get(type(value))
        expected = schema.get("type", name)
        names = expected if isinstance(expected, list) else [expected]
        if name == "number" and name not in names and value.is_integer():
            name, value = "integer", int(value)
        if name == "integer" and name not in names and "number" in names:
            try:
                return float(value)
            except OverflowError:
                return self.fail(at, "must be a smaller number")
        if name is None or name not in names:
            return self.fail(at, f"must be of type {' or '.join(map(str, names))}")
        if name == "integer":
            top = 2**63 if schema.get("format") == "int64" else 2**64  # msgpack's limit
            if not -(2**63) <= value < top:
                return self.fail(at, "must be an integer of 64 bits")
        return value

    def _string(self, value: str, schema: Schema, at: Location) -> Any:
        if not self.is_text(value, at):
            return None
        parse = FORMATS.get(schema.get("format", ""))
        if not parse:
            return value
        try:
            parsed = parse(value)
        except (ValueError, OverflowError):
            return self.fail(at, f"must be of the format {schema['format']}")
        if isinstance(parsed, bytes):
            return parsed if self.is_dataclass else value
        if isinstance(parsed, datetime | time) and self.is_dataclass:
            return parsed.isoformat()  # mashumaro writes +00:00, and pydantic Z
        return to_jsonable_python(parsed)

    def _array(self, value: list[Any], schema: Schema, at: Location, depth: int) -> list[Any]:
        first = schema.get("prefixItems", [])
        rest = schema.get("items", {})
        return [
            self.check(item, first[index] if index < len(first) else rest, (*at, index), depth + 1)
            for index, item in enumerate(value)
        ]

    def _object(
        self, value: dict[str, Any], schema: Schema, at: Location, depth: int
    ) -> dict[Any, Any]:
        """Convert the fields in the schema's order, the required ones first."""
        properties = schema.get("properties", {})
        required = dict.fromkeys(schema.get("required", []))
        rest = schema.get("additionalProperties", {})
        are_integers = schema.get("propertyNames") == INTEGER_KEYS
        self._budget.spend(depth, 32 * (len(properties) + len(required) + len(value)))
        plain: dict[Any, Any] = {}
        for name in required | properties | value:
            place = (*at, name)
            if name not in value and name in required:
                self.fail(place, "must be given")
            elif name not in value:
                if "default" in properties[name]:
                    self._fill_in(plain, name, properties[name], depth + 1)
            elif name in properties:
                plain[name] = self.check(value[name], properties[name], place, depth + 1)
            elif rest is False:
                self.fail(place, "there is no such field")
            elif are_integers and not re.fullmatch(r"-?[0-9]{1,18}", name):
                self.fail(place, "must be named by an integer")
            elif self.is_text(name, place):
                key = int(name) if are_integers else name
                plain[key] = self.check(value[name], rest, place, depth + 1)
        return plain

    def _fill_in(self, plain: dict[Any, Any], name: str, schema: Schema, depth: int) -> None:
        """Add a field's default, unless it does not fit its schema: the task then uses its own."""
        before, self.errors = self.errors, []
        default = self.check(schema["default"], schema, (), depth)
        if not self.errors:
            plain[name] = default
        self.errors = before


def is_date(value: Any) -> bool:
    """Tell whether this is a date without a time, by its length."""
    return isinstance(value, str) and len(value) == 10


def parse_duration(value: str) -> timedelta:
    """Read an ISO 8601 duration."""
    return _durations().validate_python(value)


@cache
def _durations() -> TypeAdapter[timedelta]:
    return TypeAdapter(timedelta)


def _printable(name: str) -> str:
    return name[:100].encode("utf-8", "replace").decode()


def _is_same(value: Any, other: Any) -> bool:
    return bool(value == other) and isinstance(value, bool) == isinstance(other, bool)


def _datetime(value: str) -> datetime:
    moment = datetime.fromisoformat(value)
    moment.utctimetuple()  # overflows if in UTC it is before the year 1, or after 9999
    if is_date(value):
        raise ValueError
    return moment


def _base64(value: str) -> bytes:
    return base64.b64decode(value, validate=True)


def _uri(value: str) -> str:
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*:\S", value):
        raise ValueError
    return value


FORMATS: Mapping[str, Callable[[str], object]] = {
    "date-time": _datetime,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "duration": parse_duration,
    "uuid": uuid.UUID,
    "base64": _base64,
    "uri": _uri,
}
"""Parsers for the text formats that are checked; each raises ValueError or OverflowError."""
