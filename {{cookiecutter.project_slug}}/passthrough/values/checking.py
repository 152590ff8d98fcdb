"""Checks JSON values against the part of JSON Schema that `schemas` keeps."""

import base64
import math
import operator
import re
import uuid
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from typing import Any, TypeVar

from pydantic import TypeAdapter

from .limits import Budget
from .schemas import INTEGER_KEYS, TYPES, Schema

T = TypeVar("T")
Location = tuple[str | int, ...]
Error = tuple[Location, str]

MAX_ERRORS = 100
TEXT = {"type": "string"}
"""Follows the numbers in Pydantic's schema of a Decimal, and in that of ``float | str``."""
ROUNDED = "must be text, or have at most 15 digits: a longer number may have been rounded"
BOUNDS: Mapping[str, tuple[Callable[[float, float], bool], str]] = {
    "minimum": (operator.ge, "must be at least {}"),
    "maximum": (operator.le, "must be at most {}"),
    "exclusiveMinimum": (operator.gt, "must be more than {}"),
    "exclusiveMaximum": (operator.lt, "must be less than {}"),
    "minLength": (operator.ge, "must have at least {} characters"),
    "maxLength": (operator.le, "must have at most {} characters"),
    "minItems": (operator.ge, "must have at least {} items"),
    "maxItems": (operator.le, "must have at most {} items"),
}
BOUND_OF = {int: "imum", float: "imum", str: "Length", list: "Items"}
"""How the keywords end that set bounds for a type."""


class Checker:
    """Checks values, and collects the errors.

    A valid value is returned as it is, because the task's own decoder reads it. Only text for bytes
    in a dataclass becomes bytes: that decoder takes nothing else.

    Attributes:
        errors: Locations and error messages.
        definitions: What references in schemas point to.
        is_dataclass: Whether a dataclass's decoder will read the value.
        is_exact: Whether a number that a Decimal would be made of cannot have been rounded before.
        top: What integers must be less than.
    """

    def __init__(self, definitions: Mapping[str, Schema], budget: Budget) -> None:
        self.errors: list[Error] = []
        self.definitions = definitions
        self.is_dataclass, self.is_exact, self.top = False, False, 2**64
        self._spend = budget.spend

    def fail(self, location: Location, message: str) -> Any:
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

    def as_json(self, value: Any) -> Any:
        """Return a value as JSON, if it is not."""
        return value

    def check(self, value: Any, schema: Schema, at: Location, depth: int) -> Any:
        """Check a value of any type.

        Raises:
            TooComplexError: When the budget is used up.
        """
        self._spend(depth)
        if "not" in schema:
            return self.fail(at, f"cannot be given: {schema.get('description', 'by its schema')}")
        if "$ref" in schema:
            target = self.definitions[schema["$ref"].removeprefix("#/$defs/")]
            return self.check(value, target, at, depth + 1)
        if "anyOf" in schema:
            return self._any_of(value, schema["anyOf"], at, depth)
        value = self.as_json(value)
        name = TYPES.get(type(value))
        names = schema.get("type", name)
        names = names if isinstance(names, list) else [names]
        if name == "number" and name not in names and value.is_integer():
            name = "integer"
        if not name or (name not in names and (name, "number" in names) != ("integer", True)):
            return self.fail(at, f"must be of type {' or '.join(map(str, names))}")
        if name == "integer":
            top = 2**63 if schema.get("format") == "int64" else self.top
            if not -min(top, 2**63) <= value < top:
                what = "an integer of 64 bits" if top > 2**53 else "below 2**53, or text"
                return self.fail(at, f"must be {what}")
        if not self.is_within_bounds(value, schema, at):
            return None
        match value:
            case str():
                return self._string(value, schema, at)
            case list():
                first, rest = schema.get("prefixItems", []), schema.get("items", {})
                schemas = [*first[: len(value)], *[rest] * (len(value) - len(first))]
                items = enumerate(zip(value, schemas, strict=True))
                return [self.check(item, of, (*at, i), depth + 1) for i, (item, of) in items]
            case dict():
                return self._object(value, schema, at, depth)
        return value

    def is_within_bounds(self, value: Any, schema: Schema, at: Location) -> bool:
        """Check a value against the keywords that set bounds."""
        wrong = None
        members = schema.get("enum", [schema["const"]] if "const" in schema else [])
        if members:
            longest = len(value) if isinstance(value, str) else 0
            self._spend(0, (4 + longest) * len(members))
            is_bool = isinstance(value, bool)
            if not any(value == each and is_bool == isinstance(each, bool) for each in members):
                wrong = f"must be {' or '.join(_printable(str(each)) for each in members[:10])}"
        if ending := BOUND_OF.get(type(value)):
            size = len(value) if isinstance(value, str | list) else value
            for keyword in schema.keys() & BOUNDS.keys():
                fits, message = BOUNDS[keyword]
                if keyword.endswith(ending) and not fits(size, schema[keyword]):
                    wrong = message.format(schema[keyword])
        if wrong:
            self.fail(at, wrong)
        return not wrong

    def is_text(self, value: Any, at: Location) -> bool:
        """Check that a string can be sent: JSON strings may contain lone surrogates."""
        self._spend(0, len(value) if isinstance(value, str) else 0)
        try:
            value.encode()
        except (AttributeError, UnicodeEncodeError):
            self.fail(at, "must be Unicode text")
            return False
        return True

    def _any_of(self, value: Any, schemas: list[Any], at: Location, depth: int) -> Any:
        """Use the first schema that leaves the value as it is, or else the first that it fits."""
        fitting: list[Any] = []
        for index, schema in enumerate(schemas):
            plain, errors = self.attempt(self.check, value, schema, at, depth + 1)
            if not errors and type(plain) is type(value) and plain == value:
                may_be_decimal = schemas[index + 1 : index + 2] == [TEXT] and not self.is_exact
                return self.fail(at, ROUNDED) if may_be_decimal and _is_rounded(plain) else plain
            if not errors:
                fitting.append(plain)
        return fitting[0] if fitting else self.fail(at, "matches none of the types of the union")

    def _string(self, value: str, schema: Schema, at: Location) -> Any:
        name = schema.get("format", "")
        if not self.is_text(value, at) or name not in FORMATS:
            return value
        try:
            parsed = FORMATS[name](value)
        except (ValueError, OverflowError):
            return self.fail(at, f"must be of the format {name}")
        if name in PRECISE and re.search(r"[.,][0-9]{7}", value):
            return self.fail(
                at, "must not be more precise than microseconds: Python drops the rest"
            )
        return parsed if self.is_dataclass and isinstance(parsed, bytes) else value

    def _object(
        self, value: dict[str, Any], schema: Schema, at: Location, depth: int
    ) -> dict[str, Any]:
        """Check the fields. Those that are left out are left to the task, which knows defaults."""
        properties, required = schema.get("properties", {}), schema.get("required", [])
        rest = schema.get("additionalProperties", {})
        are_integers = schema.get("propertyNames") == INTEGER_KEYS
        self._spend(depth, 32 * (len(required) + len(value)))
        plain: dict[str, Any] = {}
        for name in required:
            if name not in value:
                self.fail((*at, name), "must be given")
        for name, item in value.items():
            place = (*at, name)
            if name not in properties and rest is False:
                self.fail(place, "there is no such field")
            elif self.is_text(name, place):
                if are_integers and not re.fullmatch("-?[0-9]+", name):
                    self.fail(place, "must be named by an integer")
                plain[name] = self.check(item, properties.get(name, rest), place, depth + 1)
        return plain


def _is_rounded(value: Any) -> bool:
    """Tell whether a number has more digits than those that a double always keeps."""
    return type(value) is float and math.isfinite(value) and float(f"{value:.15g}") != value


def _printable(name: str) -> str:
    return name[:100].encode("utf-8", "replace").decode()


def _parse_time(value: str) -> datetime:
    moment = datetime.fromisoformat(value)
    moment.utctimetuple()  # overflows if in UTC it is before the year 1, or after 9999
    if len(value) == 10:  # a date without a time
        raise ValueError
    return moment


def _parse_uri(value: str) -> str:
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*:\S", value):
        raise ValueError
    return value


parse_duration = TypeAdapter(timedelta).validate_python
PRECISE = {"date-time", "time", "duration"}
FORMATS: Mapping[str, Callable[[str], object]] = {
    "date-time": _parse_time,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "duration": parse_duration,
    "uuid": uuid.UUID,
    "base64": lambda value: base64.b64decode(value, validate=True),
    "uri": _parse_uri,
}
"""Parsers for the text formats that are checked; each raises ValueError or OverflowError."""
