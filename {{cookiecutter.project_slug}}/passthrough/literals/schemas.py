"""Literal types to JSON Schema (2020-12).

The type of a dataclass or a model contains a JSON Schema from the author's SDK, which is untrusted
input. Only keywords listed here are kept, and only if their values are valid. ``pattern`` is not
one of them: matching a regular expression can take for ever. References stay references, so a
schema never grows beyond its source.
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
from .values import blob_kind, literal_to_json, struct_to_json

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
INTEGER_KEYS = {"pattern": "^-?[0-9]+$"}
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
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return _is_number(value) and isinstance(value, int) and value >= 0


def _is_plain(value: Any) -> bool:
    return not isinstance(value, list | dict)  # those take long to compare


def _is_names(value: Any) -> bool:
    names = isinstance(value, list) and all(isinstance(name, str) for name in value)
    return names and len(set(value)) == len(value)


def _is_type(value: Any) -> bool:
    known = {"null", "boolean", "integer", "number", "string", "array", "object"}
    if isinstance(value, str):
        return value in known
    return bool(value) and _is_names(value) and known.issuperset(value)


PLAIN_KEYWORDS: Mapping[str, Callable[[Any], bool]] = {
    "type": _is_type,
    "title": _is_text,
    "description": _is_text,
    "format": _is_text,
    "default": lambda _: True,
    "const": _is_plain,
    "enum": lambda value: isinstance(value, list) and bool(value) and all(map(_is_plain, value)),
    "minimum": _is_number,
    "maximum": _is_number,
    "exclusiveMinimum": _is_number,
    "exclusiveMaximum": _is_number,
    "minLength": _is_count,
    "maxLength": _is_count,
    "minItems": _is_count,
    "maxItems": _is_count,
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
    return SchemaBuilder().object_of(interface.inputs, default_literals(defaults))


def outputs_schema(interface: TypedInterface) -> dict[str, Any]:
    """Return the schema of a task's outputs in the form that `to_json` returns."""
    return SchemaBuilder(references=True).object_of(interface.outputs, {})


def default_literals(defaults: Iterable[NamedParameter]) -> dict[str, Literal]:
    """Return the defaults by input name."""
    return {
        named.name: named.parameter.default
        for named in islice(defaults, MAX_NAMES)
        if named.parameter.HasField("default")
    }


class SchemaBuilder:
    """Builds the schema of one task's inputs or outputs.

    Args:
        references: Whether to describe a value that JSON cannot hold by its reference, as in
            outputs, rather than by the form accepted in inputs.
    """

    def __init__(self, *, references: bool = False) -> None:
        self.definitions: dict[str, Schema | bool] = {}
        self._references = references
        self._budget = Budget()
        self._names: dict[int, str] = {}
        self._queue: list[tuple[str, Any, list[Mapping[str, Any]]]] = []
        self._kept: list[Any] = []  # keeps objects whose id is in self._names, so ids stay unique

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
        return {"description": why} if self._references else {"not": {}, "description": why}

    def _add_default(self, schema: Schema, default: Literal) -> None:
        try:
            schema["default"] = literal_to_json(default, self._budget)
        except TooComplexError:
            schema["description"] = "the default is too large to be shown"

    def of_type(self, literal_type: LiteralType) -> Schema:
        """Return the schema of one value; add its definitions to ``definitions``."""
        known = set(self.definitions)
        try:
            schema = self._of_type(literal_type, 0)
            while self._queue:
                name, target, scopes = self._queue.pop()
                self.definitions[name] = self._of_schema(target, scopes, 0)
        except TooComplexError:
            self._queue.clear()
            for name in self.definitions.keys() - known:
                del self.definitions[name]
            self._names = {key: name for key, name in self._names.items() if name in known}
            return self._unknown("the type is too large or nested too deep")
        return schema

    def _of_type(self, kind: LiteralType, depth: int) -> Schema:
        self._budget.spend(depth)
        schema = self._structure(kind, depth)
        is_struct = kind.WhichOneof("type") == "simple" and kind.simple == SimpleType.STRUCT
        if kind.HasField("metadata") and not is_struct and "not" not in schema:
            # From pydantic.Field: bounds, a title, a description.
            added = self._of_schema(struct_to_json(kind.metadata, self._budget), [], depth)
            if isinstance(added, dict):
                schema = {name: added[name] for name in added if name in BOUNDS} | schema
        return schema

    def _structure(self, kind: LiteralType, depth: int) -> Schema:
        match kind.WhichOneof("type"):
            case "simple" if kind.simple == SimpleType.STRUCT:
                return self._struct(kind, depth)
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
            case "union_type" if _is_pickle(kind):
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

    def _struct(self, kind: LiteralType, depth: int) -> Schema:
        given = struct_to_json(kind.metadata, self._budget, 0)
        schema = self._of_schema(given, [], depth)
        if not isinstance(schema, dict) or not schema.keys() & {"type", "$ref", "anyOf"}:
            return {"type": "object", **(schema if isinstance(schema, dict) else {})}
        return schema

    def _of_schema(self, given: Any, scopes: list[Mapping[str, Any]], depth: int) -> Schema | bool:
        """Return a copy of a schema with only the known keywords.

        Args:
            given: The schema.
            scopes: The enclosing definitions, the innermost last.
            depth: Its nesting depth.
        """
        self._budget.spend(depth)
        if isinstance(given, bool):
            return given
        if not isinstance(given, dict):
            return True
        for name in ("definitions", "$defs"):
            if isinstance(given.get(name), dict):
                scopes = [*scopes, given[name]]
        kept = {
            keyword: given[keyword]
            for keyword, is_valid in PLAIN_KEYWORDS.items()
            if keyword in given and is_valid(given[keyword])
        }
        if "enum" in kept:
            kept.pop("type", None)  # for an IntEnum the SDK lists names, but the type integer
        self._add_reference(kept, given.get("$ref"), scopes)

        def each(schemas: list[Any]) -> list[Schema | bool]:
            return [self._of_schema(schema, scopes, depth + 1) for schema in schemas]

        if isinstance(properties := given.get("properties"), dict):
            kept["properties"] = dict(zip(properties, each([*properties.values()]), strict=True))
        for keyword in ("items", "additionalProperties"):
            if isinstance(given.get(keyword), dict | bool):
                kept[keyword] = self._of_schema(given[keyword], scopes, depth + 1)
        if isinstance(items := given.get("prefixItems"), list):
            kept["prefixItems"] = each(items)
        for keyword in ("anyOf", "oneOf", "allOf"):
            variants = given.get(keyword)
            # Several schemas in allOf would have to hold at once; the SDK writes only one.
            if isinstance(variants, list) and variants and (keyword != "allOf" or not variants[1:]):
                kept["anyOf"] = each(variants)
        if given.get("propertyNames") == {"type": "integer"}:
            kept["propertyNames"] = INTEGER_KEYS
        return kept

    def _add_reference(self, kept: Schema, reference: Any, scopes: list[Mapping[str, Any]]) -> None:
        """Add a reference to the definition in the new schema, if there is one."""
        text = reference if isinstance(reference, str) else ""
        found = re.fullmatch(r"#/(?:\$defs|definitions)/([^/]+)", text)
        if not found:
            return
        for index, scope in reversed([*enumerate(scopes)]):
            if found[1] in scope:
                target = scope[found[1]]
                name = self._names.get(id(target))
                if name is None:
                    name = self._new_name(found[1])
                    self._names[id(target)] = name
                    self._kept.append(target)
                    self.definitions[name] = True
                    self._queue.append((name, target, scopes[: index + 1]))
                kept["$ref"] = f"#/$defs/{name}"
                return

    def _new_name(self, wanted: str) -> str:
        name = re.sub(r"[^A-Za-z0-9_.]", "_", wanted)[:64]
        return f"{name}-{len(self.definitions)}" if name in self.definitions else name


def _is_pickle(kind: LiteralType) -> bool:
    return any(
        variant.HasField("blob") and blob_kind(variant.blob) == "pickle"
        for variant in kind.union_type.variants
    )
