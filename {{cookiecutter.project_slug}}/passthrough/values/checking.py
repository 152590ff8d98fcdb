"""Checks JSON values against the part of JSON Schema that `schemas` keeps."""

import base64
import operator
import re
import uuid
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from functools import cache
from typing import Any, TypeVar

from pydantic import TypeAdapter
from pydantic_core import to_jsonable_python

from .limits import Budget
from .schemas import INTEGER_KEYS, TYPES, Schema

T = TypeVar("T")
Location = tuple[str | int, ...]
Error = tuple[Location, str]

MAX_ERRORS = 100
Bounds = Mapping[str, tuple[Callable[[float, float], bool], str]]
OF_NUMBERS: Bounds = {
    "minimum": (operator.ge, "must be at least {}"),
    "maximum": (operator.le, "must be at most {}"),
    "exclusiveMinimum": (operator.gt, "must be more than {}"),
    "exclusiveMaximum": (operator.lt, "must be less than {}"),
}
OF_TEXT: Bounds = {
    "minLength": (operator.ge, "must have at least {} characters"),
    "maxLength": (operator.le, "must have at most {} characters"),
}
OF_LISTS: Bounds = {
    "minItems": (operator.ge, "must have at least {} items"),
    "maxItems": (operator.le, "must have at most {} items"),
}
BOUNDS = {int: OF_NUMBERS, float: OF_NUMBERS, str: OF_TEXT, list: OF_LISTS}


class Checker:
    """Checks values, and collects the errors.

    A valid value is returned in the form that the SDK's own encoders produce: with its fields'
    defaults, whole numbers as floats if the schema says so, and dates in a canonical format.

    Attributes:
        errors: Locations and error messages.
        is_dataclass: Whether mashumaro will read the value, not pydantic.
    """

    def __init__(self, definitions: Mapping[str, Schema], budget: Budget) -> None:
        self.errors: list[Error] = []
        self.is_dataclass = False
        self._definitions = definitions
        self._budget = budget

    def fail(self, location: Location, message: str) -> None:
        """Record an error at a location. Only the first hundred are kept."""
        if len(self.errors) < MAX_ERRORS:
            named = (_printable(part) if isinstance(part, str) else part for part in location)
            self.errors.append((tuple(named), message))

    def attempt(self, convert: Callable[..., T], *arguments: Any) -> tuple[T, list[Error]]:
        """Return the result of a conversion, and its errors instead of recording them."""
        before, self.errors = self.errors, []
        try:
            return convert(*arguments), self.errors
        finally:
            self.errors = before

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
        size = len(value) if isinstance(value, str | list) else value
        for keyword, (fits, message) in BOUNDS.get(type(value), {}).items():
            if keyword in schema and not fits(size, schema[keyword]):
                wrong = message.format(schema[keyword])
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
        for schema in schemas:
            plain, errors = self.attempt(self.check, value, schema, at, depth + 1)
            if not errors and type(plain) is type(value):
                return plain
            if not errors:
                fitting.append(plain)
        return fitting[0] if fitting else self.fail(at, "matches none of the types of the union")

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
        """Convert the fields in the schema's order, the required ones first.

        A default that does not fit its schema is left out: the task then uses its own.
        """
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
                if "default" in (field := properties[name]):
                    default = field["default"]
                    filled, errors = self.attempt(self.check, default, field, place, depth + 1)
                    if not errors:
                        plain[name] = filled
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
