"""Literal types to JSON Schema (2020-12).

The type of a dataclass or a model contains a JSON Schema from the author's SDK, which is untrusted
input. Only keywords listed here are kept, and only if their values are valid. ``pattern`` is not
one of them: matching a regular expression can take for ever. References stay references, so a
schema never grows beyond its source.
"""

import re
from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flyteidl2.core.interface_pb2 import TypedInterface, VariableMap
from flyteidl2.core.literals_pb2 import Literal
from flyteidl2.core.types_pb2 import LiteralType, SimpleType
from flyteidl2.task.common_pb2 import NamedParameter

from .limits import MAX_NAMES, Budget, TooComplexError
from .outputs import blob_kind, literal_to_json, struct_to_json

Schema = dict[str, Any]
Scope = ChainMap[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
INTEGER_KEYS = {"pattern": "^-?[0-9]+$"}
NOTHING: Schema = {"not": {}}
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


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= 1000


def _is_number(value: Any) -> bool:
    return type(value) in {int, float}


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_plain(value: Any) -> bool:
    return not isinstance(value, list | dict)  # those take long to compare


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _is_type(value: Any) -> bool:
    names = value if isinstance(value, list) else [value]
    return bool(names) and all(name in TYPES.values() for name in names)


PLAIN_KEYWORDS: Mapping[str, Callable[[Any], bool]] = {
    "type": _is_type,
    **dict.fromkeys(("title", "description", "format"), _is_text),
    "default": lambda _: True,
    "const": _is_plain,
    "enum": lambda value: isinstance(value, list) and bool(value) and all(map(_is_plain, value)),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _is_number),
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems"), _is_count),
    "required": _is_names,
}
"""Keywords whose values are not schemas, each with a check for its value."""

BOUNDS = PLAIN_KEYWORDS.keys() - {"type", "format", "default", "required"}
"""Keywords that add bounds or descriptions to a value with a known structure."""


def inputs_schema(
    interface: TypedInterface, defaults: Iterable[NamedParameter] = ()
) -> dict[str, Any]:
    """Return the schema of a task's inputs.

    Args:
        interface: The task's interface.
        defaults: Its ``default_inputs``; an input with a default may be left out.
    """
    literals = {
        named.name: named.parameter.default
        for named in defaults
        if named.parameter.HasField("default")
    }
    return SchemaBuilder().object_of(interface.inputs, literals)


def outputs_schema(interface: TypedInterface) -> dict[str, Any]:
    """Return the schema of a task's outputs in the form that `to_json` returns."""
    return SchemaBuilder(references=True).object_of(interface.outputs, {})


class SchemaBuilder:
    """Builds the schema of one task's inputs or outputs.

    Args:
        references: Whether to describe a value that JSON cannot hold by its reference, as in
            outputs, rather than by the form accepted in inputs.
    """

    def __init__(self, *, references: bool = False) -> None:
        self.definitions: dict[str, Schema] = {}
        self._references = references
        self._budget = Budget()
        self._names: dict[int, str] = {}
        self._queue: list[tuple[str, Any, Scope]] = []

    def object_of(self, variables: VariableMap, defaults: Mapping[str, Literal]) -> dict[str, Any]:
        """Return the schema of an object with all the variables."""
        entries = variables.variables
        if len(entries) > MAX_NAMES:
            return {"$schema": DIALECT, **self._unknown(f"more than {MAX_NAMES} values")}
        properties = {}
        for entry in entries:
            schema = self.of_type(entry.value.type)
            if entry.value.description and "description" not in schema:
                schema["description"] = entry.value.description[:1000]
            if entry.key in defaults and "not" not in schema:
                self._add_default(schema, defaults[entry.key])
            properties[entry.key] = schema
        return {
            "$schema": DIALECT,
            "type": "object",
            "properties": properties,
            "required": [name for name in properties if name not in defaults],
            "additionalProperties": False,
            **({"$defs": self.definitions} if self.definitions else {}),
        }

    def _unknown(self, why: str) -> Schema:
        """Return the schema of a value that can be shown in some form, but not given."""
        return {"description": why} if self._references else {**NOTHING, "description": why}

    def _add_default(self, schema: Schema, default: Literal) -> None:
        try:
            schema["default"] = literal_to_json(default, self._budget)
        except TooComplexError:
            schema["description"] = "the default is too large to be shown"

    def of_type(self, literal_type: LiteralType) -> Schema:
        """Return the schema of one value; add its definitions to ``definitions``."""
        self._names = {}
        self._queue = []  # keeps the definitions, whose ids are in self._names
        try:
            schema = self._of_type(literal_type, 0)
            for name, target, scope in self._queue:  # it grows meanwhile
                self.definitions[name] = self._of_schema(target, scope, 0)
        except TooComplexError:
            return self._unknown("the type is too large or nested too deep")
        return schema

    def _of_type(self, kind: LiteralType, depth: int) -> Schema:
        self._budget.spend(depth)
        given = struct_to_json(kind.metadata, self._budget)
        added = self._of_schema(given, ChainMap(), depth) if given else {}
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
                self._budget.spend(depth, sum(len(value) + 32 for value in values))
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
        properties: Schema = {
            "kind": {"const": kind},
            "uri": text | {"format": "uri"},
            "format": text,
            "hash": text,
        }
        if self._references:
            properties["size"] = {"type": "integer"}
            return {"type": "object", "properties": properties, "required": ["kind"]}
        if kind == "pickle":
            return self._unknown("a Python object, which Flyte stores as a pickle")
        return {
            "type": ["string", "object"],
            "description": f"the URI of a {kind}",
            "format": "uri",
            "properties": properties,
            "required": ["uri"],
            "additionalProperties": False,
        }

    def _of_schema(self, given: Any, scope: Scope, depth: int) -> Schema:
        """Return a copy of a schema with only the known keywords.

        Args:
            given: The schema.
            scope: The definitions, the enclosing schemas' included.
            depth: Its nesting depth.
        """
        self._budget.spend(depth)
        if not isinstance(given, dict):
            return NOTHING if given is False else {}
        for name in ("definitions", "$defs"):
            if isinstance(given.get(name), dict):
                scope = scope.new_child(given[name])
        kept = {
            keyword: given[keyword]
            for keyword, is_valid in PLAIN_KEYWORDS.items()
            if keyword in given and is_valid(given[keyword])
        }
        if "enum" in kept:
            kept.pop("type", None)  # for an IntEnum the SDK lists names, but the type integer
        if found := self._definition(given.get("$ref"), scope):
            kept["$ref"] = f"#/$defs/{found}"

        def each(schemas: list[Any]) -> list[Schema]:
            return [self._of_schema(schema, scope, depth + 1) for schema in schemas]

        if isinstance(properties := given.get("properties"), dict):
            kept["properties"] = dict(zip(properties, each([*properties.values()]), strict=True))
        if isinstance(items := given.get("items"), dict):
            kept["items"] = self._of_schema(items, scope, depth + 1)
        if isinstance(rest := given.get("additionalProperties"), dict | bool):
            kept["additionalProperties"] = rest and self._of_schema(rest, scope, depth + 1)
        if isinstance(first := given.get("prefixItems"), list):
            kept["prefixItems"] = each(first)
        for keyword in ("anyOf", "oneOf", "allOf"):
            variants = given.get(keyword)
            # Several schemas in allOf would have to hold at once; the SDK writes only one.
            if isinstance(variants, list) and variants and (keyword != "allOf" or not variants[1:]):
                kept["anyOf"] = each(variants)
        if given.get("propertyNames") == {"type": "integer"}:
            kept["propertyNames"] = INTEGER_KEYS
        return kept

    def _definition(self, reference: Any, scope: Scope) -> str | None:
        """Return the name in ``definitions`` of what a reference points to, if it does."""
        text = reference if isinstance(reference, str) else ""
        found = re.fullmatch(r"#/(?:\$defs|definitions)/([^/]+)", text)
        if not found or found[1] not in scope:
            return None
        target = scope[found[1]]
        if id(target) not in self._names:
            name = re.sub(r"[^A-Za-z0-9_.]", "_", found[1])[:64]
            if name in self.definitions:
                name += f"-{len(self.definitions)}"
            self._names[id(target)] = name
            self.definitions[name] = {}
            self._queue.append((name, target, scope))
        return self._names[id(target)]


def holds_pickle(kind: LiteralType) -> bool:
    """Tell whether values of this type, or some items of them, are pickled."""
    match kind.WhichOneof("type"):
        case "collection_type":
            return holds_pickle(kind.collection_type)
        case "map_value_type":
            return holds_pickle(kind.map_value_type)
        case "union_type":
            return is_pickle(kind) or any(map(holds_pickle, kind.union_type.variants))
    return False


def is_pickle(kind: LiteralType) -> bool:
    """Tell whether values of this type are pickled."""
    return any(
        variant.HasField("blob") and blob_kind(variant.blob) == "pickle"
        for variant in kind.union_type.variants
    )
