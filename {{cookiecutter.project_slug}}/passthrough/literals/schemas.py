"""Literal types to JSON Schema (2020-12).

The type of a dataclass or a model carries a JSON Schema that its author's SDK wrote, so anybody's
input. Of it only keywords that are known here are kept, each only if it has the form it should
have. Patterns are not among them: a regular expression can take for ever. References stay
references, so a schema is never larger than what it was made from.
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
    return not isinstance(value, list | dict)  # which take long to compare


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
"""Keywords that hold no schema, and what their values must be."""

BOUNDS = PLAIN_KEYWORDS.keys() - {"type", "format", "default", "required"}
"""Those that say more about a value whose structure is known."""


def inputs_schema(
    interface: TypedInterface, defaults: Iterable[NamedParameter] = ()
) -> dict[str, Any]:
    """Describe the inputs that a task takes.

    Args:
        interface: The task's.
        defaults: Its ``default_inputs``; an input that has one may be left out.
    """
    return SchemaBuilder().object_of(interface.inputs, default_literals(defaults))


def outputs_schema(interface: TypedInterface) -> dict[str, Any]:
    """Describe the outputs of a task, as `to_json` shows them."""
    return SchemaBuilder(references=True).object_of(interface.outputs, {})


def default_literals(defaults: Iterable[NamedParameter]) -> dict[str, Literal]:
    """Find the defaults by the names of their inputs."""
    return {
        named.name: named.parameter.default
        for named in islice(defaults, MAX_NAMES)
        if named.parameter.HasField("default")
    }


class SchemaBuilder:
    """Makes the schemas of the inputs of one task, or of its outputs.

    Args:
        references: Whether what JSON cannot hold is described as the reference that is shown for
            it; otherwise as what is taken for it.
    """

    def __init__(self, *, references: bool = False) -> None:
        self.definitions: dict[str, Schema | bool] = {}
        self._references = references
        self._budget = Budget()
        self._names: dict[int, str] = {}
        self._queue: list[tuple[str, Any, list[Mapping[str, Any]]]] = []
        self._kept: list[Any] = []  # what self._names knows by id, so that no id is used twice

    def object_of(self, variables: VariableMap, defaults: Mapping[str, Literal]) -> dict[str, Any]:
        """Make the schema of an object that holds all the variables."""
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
        """Make the schema of what can be shown in some form, but not given."""
        return {"description": why} if self._references else {"not": {}, "description": why}

    def _add_default(self, schema: Schema, default: Literal) -> None:
        try:
            schema["default"] = literal_to_json(default, self._budget)
        except TooComplexError:
            schema["description"] = "the default is too large to be shown"

    def of_type(self, literal_type: LiteralType) -> Schema:
        """Make the schema of one value; its definitions are added to ``definitions``."""
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
            # What pydantic.Field adds to a type: bounds, a title, a description.
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
        return self._unknown("a type that JSON has no form for")

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
            return self._unknown("a Python object, which Flyte keeps as a pickle")
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
        """Keep of a schema what is known here.

        Args:
            given: The schema.
            scopes: The definitions around it, the nearest last.
            depth: How deep it is nested.
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
            kept.pop("type", None)  # the SDK names the members of an IntEnum, and says integer
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
            # Of several allOf each would have to hold; the SDK's have one, beside a description.
            if isinstance(variants, list) and variants and (keyword != "allOf" or not variants[1:]):
                kept["anyOf"] = each(variants)
        if given.get("propertyNames") == {"type": "integer"}:
            kept["propertyNames"] = INTEGER_KEYS
        return kept

    def _add_reference(self, kept: Schema, reference: Any, scopes: list[Mapping[str, Any]]) -> None:
        """Refer to the definition in the schema that is being made, if there is such a one."""
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
