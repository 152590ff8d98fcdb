"""Literal types to JSON Schema (2020-12).

The type of a dataclass or a model contains a JSON Schema from the author's SDK, which is untrusted
input. Only keywords listed here are kept, and only if their values are valid. ``pattern`` is not
one of them: matching a regular expression can take for ever. Neither is ``default``: its numbers
have become floats, and the task knows it exactly. References stay references, so a schema never
grows beyond its source.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any

from flyteidl2.core.interface_pb2 import TypedInterface, VariableMap
from flyteidl2.core.literals_pb2 import Literal
from flyteidl2.core.types_pb2 import LiteralType, SimpleType
from flyteidl2.task.common_pb2 import NamedParameter

from .limits import MAX_NAMES, Budget, TooComplexError
from .outputs import Reader, blob_kind

Schema = dict[str, Any]
Definitions = Mapping[str, Any]
Check = Callable[[Any], bool]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
INTEGER_KEYS = {"pattern": "^-?[0-9]+$"}
NOTHING: Schema = {"not": {}}
ANY_VALUE: Schema = {"type": ["string", "integer", "number", "boolean"]}
TYPES: Mapping[type, str] = {
    type(None): "null",
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}
"""JSON Schema's names for the Python types that JSON is parsed into."""

SIMPLE: Mapping[int, Schema] = {
    SimpleType.NONE: {"type": "null"},
    SimpleType.INTEGER: {"type": "integer", "format": "int64"},
    SimpleType.FLOAT: {"type": "number"},
    SimpleType.STRING: {"type": "string"},
    SimpleType.BOOLEAN: {"type": "boolean"},
    SimpleType.DATETIME: {"type": "string", "format": "date-time"},
    SimpleType.DURATION: {"type": "string", "format": "duration"},
}


def _is_number(value: Any) -> bool:
    return type(value) in {int, float} and abs(value) < 2**53  # a larger one has been rounded


def _is_plain(value: Any) -> bool:  # lists and objects take long to compare
    return value is None or isinstance(value, str | bool) or _is_number(value)


def _list_of(is_valid: Check) -> Check:
    return lambda value: isinstance(value, list) and bool(value) and all(map(is_valid, value))


def _work(value: Any) -> int:
    """Return what a check of a keyword's value costs, in bytes of text."""
    each = 8 if isinstance(value, list) else 1
    return each * len(value) if isinstance(value, list | str) else 0


def _is_type(value: Any) -> bool:
    return isinstance(value, str) and value in TYPES.values()


BOUNDS: Mapping[str, Check] = {
    **dict.fromkeys(("title", "description"), lambda v: isinstance(v, str) and len(v) <= 1000),
    "const": _is_plain,
    "enum": _list_of(_is_plain),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _is_number),
    **dict.fromkeys(
        ("minLength", "maxLength", "minItems", "maxItems"), lambda v: type(v) is int and v >= 0
    ),
}
PLAIN_KEYWORDS: Mapping[str, Check] = {
    "type": lambda value: _is_type(value) or _list_of(_is_type)(value),
    "format": lambda value: isinstance(value, str) and len(value) <= 1000,
    "required": _list_of(lambda name: isinstance(name, str)),
    **BOUNDS,
}
"""Keywords whose values are not schemas, each with a check for its value."""


def inputs_schema(
    interface: TypedInterface, defaults: Iterable[NamedParameter] = ()
) -> dict[str, Any]:
    """Return the schema of a task's inputs; those with a default are optional."""
    literals = {
        named.name: named.parameter.default
        for named in islice(defaults, MAX_NAMES)
        if named.parameter.HasField("default")
    }
    return SchemaBuilder(Budget()).object_of(interface.inputs, literals)


def outputs_schema(interface: TypedInterface) -> dict[str, Any]:
    """Return the schema of a task's outputs in the form that `to_json` returns."""
    return SchemaBuilder(Budget(), references=True).object_of(interface.outputs, {})


class SchemaBuilder:
    """Builds the schema of one task's inputs or outputs.

    Args:
        budget: The work that may be done.
        references: Whether to describe a value that JSON cannot hold by its reference, as in
            outputs, rather than by the form accepted in inputs.
    """

    def __init__(self, budget: Budget, *, references: bool = False) -> None:
        self.definitions: dict[str, Schema] = {}
        self._references = references
        self._spend = budget.spend
        self._reader = Reader(budget)
        self._names: dict[int, str] = {}
        self._queue: list[tuple[str, Any, Definitions]] = []

    def object_of(self, variables: VariableMap, defaults: Mapping[str, Literal]) -> dict[str, Any]:
        """Return the schema of an object with all the variables."""
        if len(variables.variables) > MAX_NAMES:
            return {"$schema": DIALECT, **self._unknown(f"more than {MAX_NAMES} values")}
        properties = {}
        for entry in variables.variables:
            properties[entry.key] = schema = self.of_type(entry.value.type)
            if entry.value.description and "description" not in schema:
                schema["description"] = entry.value.description[:1000]
            if entry.key in defaults and "not" not in schema:
                try:
                    schema["default"] = self._reader.read(defaults[entry.key])
                except TooComplexError:
                    schema["description"] = "the default is too large to be shown"
        return {
            "$schema": DIALECT,
            "type": "object",
            "properties": properties,
            "required": [name for name in properties if name not in defaults],
            "additionalProperties": False,
            **({"$defs": self.definitions} if self.definitions else {}),
        }

    def of_type(self, literal_type: LiteralType) -> Schema:
        """Return the schema of one value; add its definitions to ``definitions``."""
        self._names = {}
        self._queue = []  # keeps the definitions, whose ids are in self._names
        try:
            schema = self._of_type(literal_type, 0)
            for name, target, known in self._queue:  # it grows meanwhile
                self.definitions[name] = self._of_schema(target, known, 0, "definition")
        except TooComplexError:
            return self._unknown("the type is too large or nested too deep")
        return schema

    def _unknown(self, why: str) -> Schema:
        """Return the schema of a value that can be shown in some form, but not given."""
        return {"description": why} if self._references else {**NOTHING, "description": why}

    def _of_type(self, kind: LiteralType, depth: int) -> Schema:
        self._spend(depth)
        given = self._reader.plain(kind.metadata)
        where = "" if is_dataclass(kind) else "model"
        added = self._of_schema(given, {}, depth, where) if given else {}
        if kind.WhichOneof("type") == "simple" and kind.simple == SimpleType.STRUCT:
            if "pb_type" in given:  # a protobuf message, without a schema
                return {"type": "object"}
            is_complete = added.keys() & {"type", "$ref", "anyOf"}
            return added if is_complete else {"type": "object", **added}
        schema = self._structure(kind, depth)
        if "not" not in schema:  # from pydantic.Field: bounds, a title, a description
            schema = {name: added[name] for name in added if name in BOUNDS} | schema
        return schema

    def _structure(self, kind: LiteralType, depth: int) -> Schema:
        self._spend(depth, 32 * (len(kind.union_type.variants) + len(kind.enum_type.values)))
        match kind.WhichOneof("type"):
            case "simple" if kind.simple == SimpleType.DATETIME and kind.structure.tag == "date":
                return {"type": "string", "format": "date"}
            case "simple" if kind.simple in SIMPLE:
                return dict(SIMPLE[kind.simple])
            case "collection_type":
                return {"type": "array", "items": self._of_type(kind.collection_type, depth + 1)}
            case "map_value_type":
                items = self._of_type(kind.map_value_type, depth + 1)
                return {"type": "object", "additionalProperties": items}
            case "enum_type" if kind.enum_type.values:
                values = list(kind.enum_type.values)
                self._spend(depth, sum(map(len, values)))
                return {"type": "string", "enum": values}
            case "blob":
                return self._stored(blob_kind(kind.blob))
            case "structured_dataset_type":
                return self._stored("dataframe")
            case "union_type" if is_pickle(kind):
                return self._stored("pickle")
            case "union_type" if variants := kind.union_type.variants:
                return {"anyOf": [self._of_type(variant, depth + 1) for variant in variants]}
        return self._unknown("a type that cannot be written as JSON")

    def _stored(self, kind: str) -> Schema:
        text = {"type": "string"}
        known = {"kind": {"const": kind}, "uri": text | {"format": "uri"}}
        if self._references:
            return {"type": "object", "properties": known, "required": ["kind"]}
        if kind == "pickle":
            return self._unknown("a Python object, which Flyte stores as a pickle")
        return {
            "type": ["string", "object"],
            "description": f"the URI of a {kind}",
            "format": "uri",
            "properties": {**known, "format": text, "hash": text},
            "required": ["uri"],
            "additionalProperties": False,
        }

    def _of_schema(self, given: Any, known: Definitions, depth: int, where: str = "") -> Schema:
        """Return a copy of a schema with only the known keywords.

        Args:
            given: The schema.
            known: The definitions, the enclosing schemas' included.
            depth: Its nesting depth.
            where: "model", "field" for a model's own field and the items in it, or "definition".
        """
        self._spend(depth)
        if not isinstance(given, dict):
            return NOTHING if given is False else {}
        for name in ("definitions", "$defs"):
            if isinstance(given.get(name), dict):
                known = {**known, **given[name]}
                self._spend(depth, 32 * len(known))
        checked = (given[each] for each in (*PLAIN_KEYWORDS, "$ref") if each in given)
        self._spend(depth, sum(map(_work, checked)))  # a field's enum is checked for each field
        kept: Schema = {
            keyword: given[keyword]
            for keyword, is_valid in PLAIN_KEYWORDS.items()
            if keyword in given and is_valid(given[keyword])
        }
        if "enum" in kept:
            self._spend(depth, 32 * len(kept["enum"]))
            kept.pop("type", None)  # for an IntEnum the SDK lists names, but the type integer
            if where == "definition":
                # An Enum. A model takes its names, but a dataclass in a model its values.
                return {"title": kept.pop("title", ""), "anyOf": [kept, ANY_VALUE]}
        reference = given.get("$ref")
        name = reference.rpartition("/")[2] if isinstance(reference, str) else ""
        if name in known and reference in {f"#/$defs/{name}", f"#/definitions/{name}"}:
            target = known[name]
            if where == "field" and isinstance(target, dict) and "enum" in target:
                return self._of_schema(target, {}, depth + 1)
            kept["$ref"] = f"#/$defs/{self._name_of(target, name, known)}"

        def each(schemas: Iterable[Any], where: str = "") -> list[Schema]:
            return [self._of_schema(schema, known, depth + 1, where) for schema in schemas]

        inside = where if where == "field" and not given.get("uniqueItems") else ""
        if isinstance(items := given.get("items"), dict):
            kept["items"] = each([items], inside)[0]
        if isinstance(rest := given.get("additionalProperties"), dict | bool):
            kept["additionalProperties"] = rest and each([rest], inside)[0]
        if isinstance(properties := given.get("properties"), dict):
            schemas = each(properties.values(), "field" if where == "model" else "")
            kept["properties"] = dict(zip(properties, schemas, strict=True))
        if isinstance(first := given.get("prefixItems"), list):
            kept["prefixItems"] = each(first)
        for keyword in ("anyOf", "oneOf", "allOf"):
            variants = given.get(keyword)
            # Several schemas in allOf would have to hold at once; the SDK writes only one.
            if isinstance(variants, list) and variants and (keyword != "allOf" or not variants[1:]):
                kept["anyOf"] = each(variants)
        if isinstance(names := given.get("propertyNames"), dict):
            self._spend(depth, _work(names.get("enum")))
            if names.get("type") == "integer":
                kept["propertyNames"] = INTEGER_KEYS
            elif names.get("type") == "boolean" or _list_of(_is_number)(names.get("enum")):
                return self._unknown("keys that JSON cannot hold")
        return kept

    def _name_of(self, target: Any, name: str, known: Definitions) -> str:
        """Return the name in ``definitions`` of a definition."""
        if id(target) not in self._names:
            unique = re.sub(r"[^A-Za-z0-9_.]", "_", name)[:64]
            if unique in self.definitions:
                unique += f"-{len(self.definitions)}"
            self._names[id(target)] = unique
            self.definitions[unique] = {}
            self._queue.append((unique, target, known))
        return self._names[id(target)]


def is_dataclass(kind: LiteralType) -> bool:
    """Tell whether values of this type are read as a dataclass, not as a model."""
    return kind.structure.tag in {"", "Object-Dataclass-Transformer"}


def is_pickle(kind: LiteralType) -> bool:
    """Tell whether values of this type are pickled."""
    return any(
        variant.HasField("blob") and blob_kind(variant.blob) == "pickle"
        for variant in islice(kind.union_type.variants, MAX_NAMES)  # the SDK writes two
    )


def holds_pickle(kind: LiteralType) -> bool:
    """Tell whether values of this type, or some items of them, are pickled."""
    inside = {"collection_type": kind.collection_type, "map_value_type": kind.map_value_type}
    which = kind.WhichOneof("type") or ""
    return (
        is_pickle(kind)
        or (which in inside and holds_pickle(inside[which]))
        or any(map(holds_pickle, kind.union_type.variants))
    )
