"""Converts JSON to literals, guided by the schema of the type.

The app refuses a value that the task would read as a different value, such as "20240102" for a
date. docs/values.md lists the exceptions.
"""

import math
import re
from collections.abc import Callable, Collection, Mapping, Set
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from itertools import repeat
from typing import Any
from uuid import UUID

import msgpack
from flyteidl2.core.literals_pb2 import Literal
from flyteidl2.core.types_pb2 import BOOLEAN, FLOAT, INTEGER, STRING, LiteralType, SimpleType
from flyteidl2.core.types_pb2 import StructuredDatasetType as TableType
from pydantic import TypeAdapter
from pydantic_core import to_jsonable_python

from ..limits import CHARS_PER_NODE, Budget, TooComplexError
from .schemas import DURATION, SECRET, SIMPLE, TYPES, VALUE_OF_ENUM, Schema, SchemaBuilder

Location = tuple[str | int, ...]
Error = tuple[Location, str]

TEXT, NULL, ANYTHING = SIMPLE[STRING], SIMPLE[SimpleType.NONE], Schema()
SMALL_TYPE = 16  # bytes; the memory of a smaller type is included in the node of the value
NOT_FINITE = ("NaN", "Infinity", "-Infinity")  # texts for numbers that JSON cannot express
_duration = TypeAdapter(timedelta).validate_python


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    moment.utctimetuple()  # raises OverflowError if the year in UTC is 10,000
    return moment


# The pattern of URIs also matches paths, because the local Flyte server stores files in a folder.
URI = r"([A-Za-z][A-Za-z0-9+.-]*:\S|/)[^\0]*"
DAY, TIME = r"\d{4}-\d\d-\d\d", r"\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)?"
FORMATS: Mapping[str, tuple[str, Callable[[str], Any], str]] = {
    "date-time": (f"{DAY}[T ]{TIME}", _moment, "2026-01-31T09:30:00.250Z"),
    "date": (DAY, date.fromisoformat, "2026-01-31"),
    "time": (TIME, time.fromisoformat, "09:30:00.250"),
    "duration": (DURATION["pattern"], _duration, "P1DT2H30M"),
    "uri": (URI, str, "s3://bucket/key"),
    "decimal": (r"-?\d+(\.\d+)?([eE][+-]?\d+)?|NaN|-?Infinity", Decimal, "12.50"),
    "uuid": (r"[\da-fA-F]{8}(-[\da-fA-F]{4}){3}-[\da-fA-F]{12}", UUID, str(UUID(int=1))),
}
"""Pattern, parser and example of each text format.

The patterns refuse texts that the parsers would accept but change. Pydantic reads a text of digits
as a number of seconds. Python ignores digits after the microseconds.
"""
PRIMITIVES: Mapping[int, tuple[str, Callable[[Any], Any]]] = {
    INTEGER: ("integer", int),
    FLOAT: ("float_value", float),
    STRING: ("string_value", str),
    BOOLEAN: ("boolean", bool),
    SimpleType.DATETIME: ("datetime", _moment),
    SimpleType.DURATION: ("duration", _duration),
}


class InvalidInputs(ValueError):  # noqa: N818
    """The task cannot run with these inputs; ``errors`` has pairs of a location and a message."""

    def __init__(self, errors: list[Error]) -> None:
        super().__init__(errors)
        self.errors = errors


def to_literals(
    values: Mapping[str, Any],
    kinds: Mapping[str, LiteralType],
    optional: Collection[str],
    budget: Budget,
) -> dict[str, Literal]:
    """Convert JSON values, or values that Pydantic can write as JSON, to the inputs of a task.

    Args:
        values: A mapping of input names to values.
        kinds: The types of all inputs of the task.
        optional: The names of inputs that may be omitted.
        budget: The number of nodes that the conversion may read.

    Returns:
        The literals by input name. Omitted inputs have no literals.

    Raises:
        InvalidInputs: An input is invalid. The exception has the first error of each input, and the
            response has the status 422.
    """
    converter, literals = Converter(budget), dict[str, Literal]()
    unknown = (name for name in values if name not in kinds)
    errors: list[Error] = [((name,), "the task has no such input") for name in unknown]
    for name, kind in kinds.items():
        try:
            if name in values:
                schema = converter.schemas.of_type(kind)
                literals[name] = converter.convert(values[name], schema, (name,))
            elif name not in optional:
                errors.append(((name,), "must be given"))
        except InvalidInputs as error:
            errors += error.errors
        except TooComplexError:
            errors.append(((name,), "too large, or nested too deep"))
    if errors:
        raise InvalidInputs(errors)
    return literals


class Converter:
    """Converts the inputs of one run, or raises InvalidInputs. A budget limits the work."""

    def __init__(self, budget: Budget) -> None:
        self._spend, self.schemas = budget.spend, SchemaBuilder(budget)

    def convert(self, value: Any, schema: Schema, place: Location, depth: int = 1) -> Any:
        """Return the literal of a value.

        For a part of a dataclass or a model, return JSON, because the SDK stores the whole
        dataclass or model as one literal.
        """
        value = _as_json(value, schema.kind)
        is_part = schema.kind is Schema.kind
        if "anyOf" not in schema:  # for a union, `_candidates` subtracts from the budget
            self._spend(depth, len(value) if isinstance(value, str) else 0)
        converted = value
        if "anyOf" in schema:
            converted = self._union(value, schema, place, depth)
        elif "$ref" in schema:
            converted = self.convert(value, self._resolved(schema), place, depth + 1)
        elif fault := self._fault(value, schema):
            raise InvalidInputs([(place, fault)])
        elif isinstance(value, list):
            converted = self._items(value, schema, place, depth)
        elif isinstance(value, dict):
            converted = self._fields(value, schema, place, depth)
        elif schema.get("type") == "number" and not (schema.is_model and value in NOT_FINITE):
            converted = float(value)  # the SDK also stores the integer 2 as the float 2.0
        if is_part or schema.kind.HasField("union_type"):
            return converted
        return self._stored(converted, schema.kind)

    def _resolved(self, schema: Schema) -> Schema:
        """If a schema is a reference, return its target, which may be another reference."""
        if "$ref" in schema:
            return self.schemas.definitions[schema["$ref"].removeprefix("#/$defs/")]
        return schema

    def _union(self, value: Any, schema: Schema, place: Location, depth: int) -> Any:
        """Convert a value to the type of the union that the task will read."""
        candidates = self._candidates(value, schema["anyOf"], depth)
        if not candidates:
            raise InvalidInputs([(place, "matches none of the types")])
        if len(candidates) == 1:
            return self._variant(value, candidates[0], place, depth + 1)
        if schema.kind.HasField("union_type"):
            return self._declared(value, candidates, place, depth)
        return self._undeclared(value, candidates, place, depth)

    def _declared(self, value: Any, candidates: list[Schema], place: Location, depth: int) -> Any:
        """Convert a value to the only type of the union for which it is valid.

        From the type in the literal, the SDK cannot tell the class of a dataclass or a model. If
        several classes of the union accept the value, the task fails.
        """
        results = list[Any]()
        for variant in candidates:
            with suppress(InvalidInputs):
                results.append(self._variant(value, variant, place, depth + 1))
        classes = [variant for variant in candidates if variant.kind.simple == SimpleType.STRUCT]
        if len(results) == 1 and len(classes) < 2:
            return results[0]
        number = "several" if results else "none"
        raise InvalidInputs([(place, f"matches {number} of the types of the union")])

    def _undeclared(self, value: Any, candidates: list[Schema], place: Location, depth: int) -> Any:
        """Convert a value of a union in a dataclass or a model, where the task chooses the type.

        A dataclass chooses the first type to which it can convert the value. A model chooses the
        type that has the most fields of the value. If the value is invalid for the chosen type, the
        app refuses the value, even if another type of the union would accept it.
        """
        if candidates[0].is_model and isinstance(value, dict):
            candidates.sort(key=lambda variant: len(value.keys() - self._fields_of(variant)))
        types = [variant.get("type") for variant in candidates]
        with suppress(InvalidInputs):
            # Refuse "NaN" if the union has a number, because the task may read a number or a text.
            if "number" not in types or value not in NOT_FINITE:
                return self._variant(value, candidates[0], place, depth + 1)
        raise InvalidInputs([(place, "the task may read it as another type of the union")])

    def _fields_of(self, schema: Schema) -> Set[str]:
        properties: Mapping[str, Any] = self._resolved(schema).get("properties", {})
        return properties.keys()

    def _candidates(self, value: Any, variants: list[Schema], depth: int) -> list[Schema]:
        """Return the types of a union that the task might choose for a value.

        The comparison ignores the items of an array and most fields of an object. For an integer,
        an integer type excludes the float types. For a text, a plain text type excludes Enums and
        types with a format, such as dates.
        """
        self._spend(depth, 8 * len(variants))
        non_null = [variant for variant in variants if variant != NULL]
        if value is not None and len(non_null) == 1:
            return non_null
        candidates = [variant for variant in variants if self._may_fit(value, variant)]
        # Enums in models come last, because their schemas accept any text (`VALUE_OF_ENUM`).
        candidates.sort(key=self._is_enum)
        if type(value) is int and any(variant.get("type") == "integer" for variant in candidates):
            return [variant for variant in candidates if variant.get("type") != "number"]
        if isinstance(value, str):
            plain = [variant for variant in candidates if not variant.keys() & {"format", "enum"}]
            if any(variant.get("type") == "string" for variant in plain):
                return plain
        return candidates

    def _is_enum(self, schema: Schema) -> bool:
        """Return whether this is the schema of an Enum in a model."""
        return VALUE_OF_ENUM in self._resolved(schema).get("anyOf", ())[-1:]

    def _may_fit(self, value: Any, schema: Schema) -> bool:
        """Return whether a value has the JSON type, required fields and constants of a schema."""
        value, schema = _as_json(value, schema.kind), self._resolved(schema)
        if members := schema.get("enum"):
            self._spend(0, len(members))
            return value in members
        if isinstance(value, dict):
            fields, required = schema.get("properties", {}), schema.get("required", [])
            self._spend(0, len(fields) + len(required) + len(value))
            missing = [name for name in required if name not in value]
            constants = [name for name in fields if name in value and "enum" in fields[name]]
            if missing or not all(self._may_fit(value[name], fields[name]) for name in constants):
                return False
        # A dataclass may convert a text to a list, and a number to a Decimal.
        if not schema.is_model:
            if schema.get("type") == "array" and isinstance(value, str | dict):
                return True
            if "format" in schema and isinstance(value, int | float):
                return schema["format"] not in FORMATS or schema["format"] == "decimal"
        return _has_type(value, schema)

    def _variant(self, value: Any, schema: Schema, place: Location, depth: int) -> Any:
        converted = self.convert(value, schema, place, depth)
        if schema.kind is Schema.kind:
            return converted
        self._spend_copy(schema.kind)
        return Literal(scalar={"union": {"value": converted, "type": schema.kind}})

    def _spend_copy(self, kind: LiteralType) -> None:
        """Subtract a type from the budget, because the literal contains a copy of the type.

        `ByteSize` is the size of the encoded type. A field with two bytes in the encoded type may
        need 220 bytes of memory. A small type, such as an integer or a float, counts nothing.
        """
        if (size := kind.ByteSize()) > SMALL_TYPE:
            self._spend(0, CHARS_PER_NODE * size // 2)

    def _items(self, items: list[Any], schema: Schema, place: Location, depth: int) -> list[Any]:
        schemas = schema.get("prefixItems") or repeat(schema.get("items", ANYTHING))
        return [
            self.convert(item, item_schema, (*place, index), depth + 1)
            for index, (item, item_schema) in enumerate(zip(items, schemas, strict=False))
        ]

    def _fields(self, fields: dict[str, Any], schema: Schema, place: Location, depth: int) -> Any:
        """Convert the fields of an object. The task adds the defaults of omitted fields."""
        properties, required = schema.get("properties", {}), schema.get("required", [])
        rest, converted = schema.get("additionalProperties", ANYTHING), dict[str, Any]()
        for name in required:
            self._spend(depth)
            if name not in fields:
                raise InvalidInputs([((*place, name), "must be given")])
        # Store the fields in the SDK's order, so that Flyte finds the task's cached result. The
        # schema keeps the order of required fields only. Required fields come first in a dataclass,
        # but maybe not in a model.
        names = {*required}
        if not schema.is_model or [name for name in fields if name in names] != required:
            fields = {name: fields[name] for name in (*required, *fields)}
        for name, item in fields.items():
            field, field_schema = (*place, name), properties.get(name, rest)
            fault = "there is no such field" if field_schema is False else self._fault(name, TEXT)
            if fault:
                raise InvalidInputs([(field, fault)])
            converted[name] = self.convert(item, field_schema, field, depth + 1)
        return converted

    def _stored(self, value: Any, kind: LiteralType) -> Literal:
        """Return the literal of a value whose items and fields `convert` has converted."""
        match kind.WhichOneof("type"):
            case "collection_type":
                return Literal(collection={"literals": value})
            case "map_value_type":
                return Literal(map={"literals": value})
            case "enum_type":
                return Literal(scalar={"primitive": {"string_value": value}})
            case "simple" if kind.simple in PRIMITIVES:
                field, parse = PRIMITIVES[kind.simple]
                return Literal(scalar={"primitive": {field: parse(value)}})
            case "simple" if kind.simple == SimpleType.NONE:
                return Literal(scalar={"none_type": {}})
            case "simple":
                packed = msgpack.packb(value, default=to_jsonable_python)
                return Literal(scalar={"binary": {"value": packed, "tag": "msgpack"}})
        self._spend_copy(kind)
        reference = {"uri": value} if isinstance(value, str) else value
        name, stored = reference.get("format", ""), {"uri": reference["uri"]}
        if kind.HasField("blob"):
            blob_type = {"format": name, "dimensionality": kind.blob.dimensionality}
            scalar: Any = {"blob": stored | {"metadata": {"type": blob_type}}}
        else:
            # The SDK does not derive the format of a dataframe from the extension of the file.
            extension = reference["uri"].rpartition(".")[2]
            table = TableType(format=name or (extension if extension in {"csv", "parquet"} else ""))
            # If the type of the input has a format, this format replaces the format of the value.
            table.MergeFrom(kind.structured_dataset_type)
            metadata = {"structured_dataset_type": table}
            scalar = {"structured_dataset": stored | {"metadata": metadata}}
        return Literal(scalar=scalar, hash=reference.get("hash"))

    def _fault(self, value: Any, schema: Schema) -> str:
        """Return an error message for an invalid value, or an empty text for a valid value.

        `_items` and `_fields` check the items and the fields of a value.
        """
        if "not" in schema:
            return f"cannot be given: {schema.get('description', 'by its schema')}"
        if not _has_type(value, schema):
            allowed = schema.get("type", "JSON")
            names = [allowed] if isinstance(allowed, str) else allowed
            return f"must be of type {' or '.join(names)}"
        json_type = TYPES[type(value)]
        if members := schema.get("enum"):
            self._spend(0, len(members))
            if not any(member == value and type(member) is type(value) for member in members):
                return f"must be {' or '.join(str(member)[:100] for member in members[:10])}"
        if json_type == "integer" and not -(2**63) <= value < 2**63:
            return "must be an integer of 64 bits"
        if json_type == "integer" and schema.get("type") == "number" and float(value) != value:
            return "must be a number that a float can express exactly"
        if json_type == "number" and not math.isfinite(value):  # such as 1e400
            return 'must be finite: write "Infinity", "-Infinity" or "NaN"'
        if schema.get("format") == "time-delta":
            with suppress(OverflowError):
                if timedelta(seconds=value).total_seconds() == value:
                    return ""
            return "must be a whole number of microseconds, at most 86399999999999.999999 seconds"
        if json_type == "string":
            return _fault_of_text(value, schema.get("format", ""))
        first = schema.get("prefixItems", [])
        if json_type == "array" and first and len(value) != len(first):
            return f"must have {len(first)} items"
        return ""


def _has_type(value: Any, schema: Schema) -> bool:
    """Return whether a value has a JSON type that the schema allows."""
    types = {TYPES.get(type(value))}
    if type(value) is int or (
        isinstance(value, str) and value in NOT_FINITE and "format" not in schema
    ):
        types.add("number")
    allowed = schema.get("type", TYPES.values())
    return not types.isdisjoint([allowed] if isinstance(allowed, str) else allowed)


def _fault_of_text(text: str, text_format: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:  # JSON strings may contain lone surrogates
        return "must be Unicode text"
    if text_format == "password" and text == SECRET:
        return "must be the secret itself: these stars are shown instead of a secret"
    if text_format not in FORMATS:
        return ""
    pattern, parse, example = FORMATS[text_format]
    with suppress(ValueError, OverflowError):
        if re.fullmatch(pattern, text):
            parse(text)
            return ""
    return f"must be of the format {text_format}, such as {example}"


def _as_json(value: Any, kind: LiteralType) -> Any:
    """Return JSON for a Python value, such as a time, a dataclass or a file."""
    # Do not convert a value of a union yet, because its JSON depends on the type chosen later.
    if type(value) in TYPES or kind.HasField("union_type"):
        return value
    if isinstance(value, Enum) and kind.HasField("enum_type"):
        return value.name  # Flyte stores the name of the Enum's member, not the value
    with suppress(ValueError):
        # With ``round_trip``, Pydantic omits the computed fields of models.
        json = to_jsonable_python(value, round_trip=True)
        if kind.HasField("blob") and isinstance(json, dict) and "path" in json:  # File or Dir
            return {"uri": json["path"], "format": json["format"], "hash": json["hash"] or ""}
        return json
    return value
