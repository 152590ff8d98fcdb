"""JSON to literals: a value and the schema of its type are walked together.

What the task's own decoder would read as another value is refused, such as "20240102" for a date.
"""

import math
import re
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from enum import Enum
from typing import Any

import msgpack
from flyteidl2.core.literals_pb2 import Literal
from flyteidl2.core.types_pb2 import BOOLEAN, FLOAT, INTEGER, STRING, LiteralType, SimpleType
from flyteidl2.core.types_pb2 import StructuredDatasetType as TableType
from pydantic import TypeAdapter
from pydantic_core import to_jsonable_python

from ..limits import Budget, TooComplexError
from .schemas import CONTAINERS, DURATION, SIMPLE, TYPES, Schema, SchemaBuilder

Location = tuple[str | int, ...]
Error = tuple[Location, str]

TEXT, NULL, ANYTHING = SIMPLE[STRING], SIMPLE[SimpleType.NONE], Schema()
PART = Literal()  # of a dataclass or a model, which Flyte stores as a whole
NOT_FINITE = ("NaN", "Infinity", "-Infinity")  # numbers that JSON does not have
DURATIONS = TypeAdapter(timedelta)


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    moment.utctimetuple()  # raises OverflowError if it is in the year 10,000 there
    return moment


URI = r"([A-Za-z][A-Za-z0-9+.-]*:\S|/)[^\0]*"  # the local Flyte stores files in a folder
DAY, TIME = r"\d{4}-\d\d-\d\d", r"\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)?"
FORMATS: Mapping[str, tuple[str, Callable[[str], Any], str]] = {
    "date-time": (f"{DAY}[T ]{TIME}", _moment, "2026-01-31T09:30:00.250Z"),
    "date": (DAY, date.fromisoformat, "2026-01-31"),
    "time": (TIME, time.fromisoformat, "09:30:00.250"),
    "duration": (DURATION["pattern"], DURATIONS.validate_python, "P1DT2H30M"),
    "uri": (URI, str, "s3://bucket/key"),
}
"""Patterns, parsers and examples. Parsers alone would not do: Pydantic takes digits for a number of
seconds, and Python drops what is below a microsecond."""
PRIMITIVES: Mapping[int, tuple[str, Callable[[Any], Any]]] = {
    INTEGER: ("integer", int),
    FLOAT: ("float_value", float),
    STRING: ("string_value", str),
    BOOLEAN: ("boolean", bool),
    SimpleType.DATETIME: ("datetime", _moment),
    SimpleType.DURATION: ("duration", DURATIONS.validate_python),
}
EXACT = {int: INTEGER, float: FLOAT, str: STRING, bool: BOOLEAN}


class InvalidInputs(ValueError):  # noqa: N818
    """The task cannot be run with these inputs: ``errors`` has locations and messages."""

    def __init__(self, errors: list[Error]) -> None:
        super().__init__(errors)
        self.errors = errors


def to_literals(
    values: Mapping[str, Any],
    kinds: Mapping[str, LiteralType],
    optional: Collection[str],
    budget: Budget,
) -> dict[str, Literal]:
    """Convert JSON, or what Pydantic writes as JSON, to a task's inputs.

    Raises:
        InvalidInputs: Has the first error of each input.
    """
    converter, literals = Converter(budget), dict[str, Literal]()
    unknown = (name for name in values if name not in kinds)
    errors: list[Error] = [((name,), "the task has no such input") for name in unknown]
    for name, kind in kinds.items():
        try:
            if name in values:
                schema = converter.schemas.of_type(kind)
                literals[name] = converter.literal(values[name], schema, (name,))
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
    """Converts the inputs of one run, within a budget, or raises InvalidInputs."""

    def __init__(self, budget: Budget) -> None:
        self._spend, self.schemas = budget.spend, SchemaBuilder(budget)

    def literal(self, value: Any, schema: Schema, at: Location, depth: int = 1) -> Literal:
        """Return a value's literal, or `PART`."""
        value = _as_json(value, schema.kind)
        if "anyOf" not in schema:  # each variant is charged
            self._spend(depth, len(value) if isinstance(value, str) else 0)
        if "anyOf" in schema:
            literal = self._union(value, schema, at, depth)
        elif "$ref" in schema:
            target = self.schemas.definitions[schema["$ref"].removeprefix("#/$defs/")]
            literal = self.literal(value, target, at, depth + 1)
        elif wrong := self._fault(value, schema):
            raise InvalidInputs([(at, wrong)])
        elif isinstance(value, list):
            literal = self._items(value, schema, at, depth)
        elif isinstance(value, dict):
            literal = self._fields(value, schema, at, depth)
        else:
            literal = PART
        is_made_of_others = schema.kind.WhichOneof("type") in CONTAINERS
        return literal if is_made_of_others else self._stored(value, schema.kind)

    def _union(self, value: Any, schema: Schema, at: Location, depth: int) -> Literal:
        """Choose the variant as the SDK does: of the value's exact type, or the only one that fits.

        Within a dataclass or a model, the value is stored without its type, and the task chooses:
        there it is enough that one fits.
        """
        is_declared, variants = schema.kind.HasField("union_type"), schema["anyOf"]
        beside_null = [of for of in variants[:2] if of != NULL]
        # The error of the only type besides null says more than the one below.
        if value is not None and len(variants) < 3 and len(beside_null) == 1:
            return self._variant(value, beside_null[0], at, depth + 1)
        fitting: list[Literal] = []
        for of in variants:
            with suppress(InvalidInputs):
                fitting.append(self._variant(value, of, at, depth + 1))
                # "NaN" may be shown for a number, and a dataclass would read it as a text.
                is_exact = not is_declared or EXACT.get(type(value)) == of.kind.simple
                if is_exact and value not in NOT_FINITE:
                    return fitting[-1]
        if len(fitting) == 1:
            return fitting[0]
        which = f"{len(fitting)} types of the union: ambiguous" if fitting else "none of the types"
        raise InvalidInputs([(at, f"matches {which}")])

    def _variant(self, value: Any, schema: Schema, at: Location, depth: int) -> Literal:
        literal = self.literal(value, schema, at, depth)
        if not schema.kind.WhichOneof("type"):
            return literal
        self._spend(0, schema.kind.ByteSize())  # it is copied into the literal
        return Literal(scalar={"union": {"value": literal, "type": schema.kind}})

    def _items(self, items: list[Any], schema: Schema, at: Location, depth: int) -> Literal:
        first, rest, literals = schema.get("prefixItems", []), schema.get("items", ANYTHING), []
        for index, item in enumerate(items):
            of = first[index] if index < len(first) else rest
            literals.append(self.literal(item, of, (*at, index), depth + 1))
        return Literal(collection={"literals": literals})

    def _fields(self, fields: dict[str, Any], schema: Schema, at: Location, depth: int) -> Literal:
        """Convert fields. The task knows the defaults of those left out."""
        properties, literals = schema.get("properties", {}), dict[str, Literal]()
        rest = schema.get("additionalProperties", ANYTHING)
        for name in schema.get("required", []):
            self._spend(depth)
            if name not in fields:
                raise InvalidInputs([((*at, name), "must be given")])
        for name, item in fields.items():
            place, of = (*at, name), properties.get(name, rest)
            if of is False:
                raise InvalidInputs([(place, "there is no such field")])
            if wrong := self._fault(name, TEXT):
                raise InvalidInputs([(place, wrong)])
            literals[name] = self.literal(item, of, place, depth + 1)
        return Literal(map={"literals": literals})

    def _stored(self, value: Any, kind: LiteralType) -> Literal:
        """Return the literal of a checked value, if it does not consist of other literals."""
        match kind.WhichOneof("type"):
            case None:
                return PART
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
        self._spend(0, kind.ByteSize())  # it is copied into the literal
        given = {"uri": value} if isinstance(value, str) else value
        name, stored = given.get("format", ""), {"uri": given["uri"]}
        if kind.HasField("blob"):
            of = {"format": name, "dimensionality": kind.blob.dimensionality}
            scalar: Any = {"blob": stored | {"metadata": {"type": of}}}
        else:
            ending = given["uri"].rpartition(".")[2]  # the SDK does not look at it
            table = TableType(format=name or (ending if ending in {"csv", "parquet"} else ""))
            table.MergeFrom(kind.structured_dataset_type)  # a declared format comes first
            metadata = {"structured_dataset_type": table}
            scalar = {"structured_dataset": stored | {"metadata": metadata}}
        return Literal(scalar=scalar, hash=given.get("hash"))

    def _fault(self, value: Any, schema: Schema) -> str:
        """Return what is wrong with a value, apart from its items, or an empty text."""
        if "not" in schema:
            return f"cannot be given: {schema.get('description', 'by its schema')}"
        name, names = TYPES.get(type(value)), schema.get("type")
        names = names if isinstance(names, list) else [names or name or "JSON"]
        if name == "string" and "number" in names and value in NOT_FINITE:
            return ""
        if not name or not (name in names or (name == "integer" and "number" in names)):
            return f"must be of type {' or '.join(map(str, names))}"
        if members := schema.get("enum"):
            self._spend(0, len(members))
            if (type(value), value) not in [(type(each), each) for each in members]:
                return f"must be {' or '.join(str(each)[:100] for each in members[:10])}"
        if name == "integer" and not -(2**63) <= value < 2**63:
            return "must be an integer of 64 bits"
        if name == "number" and not math.isfinite(value):  # 1e400 is read as infinity
            return 'must be finite: write "Infinity", "-Infinity" or "NaN"'
        if name == "string":
            return _fault_of_text(value, schema.get("format", ""))
        first = schema.get("prefixItems", [])
        if name == "array" and first and len(value) != len(first):
            return f"must have {len(first)} items"
        return ""


def _fault_of_text(text: str, form: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:  # JSON strings may contain lone surrogates
        return "must be Unicode text"
    if form not in FORMATS:
        return ""
    pattern, parse, example = FORMATS[form]
    with suppress(ValueError, OverflowError):
        if re.fullmatch(pattern, text):
            parse(text)
            return ""
    return f"must be of the format {form}, such as {example}"


def _as_json(value: Any, kind: LiteralType) -> Any:
    """Return JSON for a Python value, such as a time, a dataclass or a file."""
    if type(value) in TYPES or kind.HasField("union_type"):  # a union's variants follow
        return value
    if isinstance(value, Enum) and kind.HasField("enum_type"):  # Flyte has the names
        return value.name
    with suppress(ValueError):
        made = to_jsonable_python(value, round_trip=True)  # without a model's computed fields
        if kind.HasField("blob") and isinstance(made, dict) and "path" in made:  # a File, or a Dir
            return {"uri": made["path"], "format": made["format"], "hash": made["hash"] or ""}
        return made
    return value
