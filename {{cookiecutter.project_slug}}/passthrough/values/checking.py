"""Checks JSON values against the part of JSON Schema that `schemas` keeps."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from .limits import Budget
from .schemas import TYPES, Schema

T = TypeVar("T")
Location = tuple[str | int, ...]
Error = tuple[Location, str]

MAX_ERRORS = 100
TEXT = {"type": "string"}
"""Follows the numbers in Pydantic's schema of a Decimal, and in that of ``float | str``."""
ROUNDED = "must be text, or have at most 15 digits: a longer number may have been rounded"
PRECISE = {"date-time", "time", "duration"}


class Checker:
    """Checks values, and collects the errors.

    A value is not converted: the task's own decoder does that, and refuses what it cannot read,
    such as a text that is no date. Checked here is what it would read as another value.

    Attributes:
        errors: Locations and error messages.
        definitions: What references in schemas point to.
    """

    def __init__(self, definitions: Mapping[str, Schema], budget: Budget) -> None:
        self.errors: list[Error] = []
        self.definitions = definitions
        self._spend = budget.spend

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

    def check(self, value: Any, schema: Schema, at: Location, depth: int) -> None:
        """Check a value of any type.

        Raises:
            TooComplexError: When the budget is used up.
        """
        self._spend(depth)
        if "not" in schema:
            self.fail(at, f"cannot be given: {schema.get('description', 'by its schema')}")
        elif "$ref" in schema:
            target = self.definitions[schema["$ref"].removeprefix("#/$defs/")]
            self.check(value, target, at, depth + 1)
        elif "anyOf" in schema:
            self._check_union(value, schema["anyOf"], at, depth)
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
        names = names if isinstance(names, list) else [names or name]
        fits = name in names or (name == "integer" and "number" in names)
        if not name or not fits:
            return f"must be of type {' or '.join(map(str, names))}"
        members = schema.get("enum", [schema["const"]] if "const" in schema else [])
        text, form = value if isinstance(value, str) else "", schema.get("format")
        self._spend(0, len(text) + (4 + len(text)) * len(members))
        if members and not any(type(value) is type(each) and value == each for each in members):
            return f"must be {' or '.join(_printable(str(each)) for each in members[:10])}"
        if name == "integer" and not -(2**63) <= value < 2**63:
            return "must be an integer of 64 bits"
        if _printable(text, len(text)) != text:  # JSON strings may contain lone surrogates
            return "must be Unicode text"
        if name == "string" and form == "uri" and not re.match(r"[A-Za-z][A-Za-z0-9+.-]*:\S", text):
            return "must be of the format uri"
        if form in PRECISE and re.search(r"[.,][0-9]{7}", text):
            return "must not be more precise than microseconds: Python drops the rest"
        first = schema.get("prefixItems", [])
        if name == "array" and first and "items" not in schema and len(value) != len(first):
            return f"must have {len(first)} items"
        return ""

    def _check_union(self, value: Any, schemas: list[Any], at: Location, depth: int) -> None:
        is_float = type(value) is float and math.isfinite(value)
        if is_float and TEXT in schemas and float(f"{value:.15g}") != value:
            self.fail(at, ROUNDED)
        elif all(self.attempt(self.check, value, each, at, depth + 1)[1] for each in schemas):
            self.fail(at, "matches none of the types of the union")

    def _check_object(
        self, value: dict[str, Any], schema: Schema, at: Location, depth: int
    ) -> None:
        """Check the fields. Those that are left out are left to the task, which knows defaults."""
        properties, required = schema.get("properties", {}), schema.get("required", [])
        rest = schema.get("additionalProperties", {})
        self._spend(depth, 32 * (len(required) + len(value)))
        for name in required:
            if name not in value:
                self.fail((*at, name), "must be given")
        for name, item in value.items():
            place = (*at, name)
            if name not in properties and rest is False:
                self.fail(place, "there is no such field")
            elif wrong := self.fault(name):
                self.fail(place, wrong)
            else:
                self.check(item, properties.get(name, rest), place, depth + 1)


def _printable(text: str, longest: int = 100) -> str:
    return text[:longest].encode("utf-8", "replace").decode()
