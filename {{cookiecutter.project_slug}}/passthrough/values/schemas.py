"""Literal types to JSON Schema (2020-12).

The type of a dataclass or a model contains a JSON Schema from the author's SDK, which is untrusted
input. Only keywords listed here are kept, and only if their values are valid: not ``pattern``,
since matching a regular expression can take for ever, and of ``default`` no number that may have
been rounded. References stay references, so a schema never grows beyond its source.
"""

from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

from flyteidl2.core.interface_pb2 import TypedInterface
from flyteidl2.core.types_pb2 import LiteralType, SimpleType
from flyteidl2.task.common_pb2 import NamedParameter

from .budget import CHARS_OF_NODE, Budget, TooComplexError
from .outputs import Reader, blob_kind


class Schema(dict[str, Any]):
    """A JSON Schema, with the type of Flyte's that it describes.

    A part of a dataclass's or a model's schema has the type without fields.
    """

    kind = LiteralType()


DIALECT = "https://json-schema.org/draft/2020-12/schema"
PICKLE = "a Python object, which Flyte stores as a pickle"
ANY_VALUE = Schema(type=["string", "integer"])
INTEGERS = Schema(pattern="^(0|-?[1-9][0-9]*)$")
DURATION = Schema(
    type="string",
    format="duration",
    pattern=r"^-?P(?!$)(\d+W)?(\d+D)?(T(?=\d)(\d+H)?(\d+M)?(\d+(\.\d{1,6})?S)?)?$",
)
"""As in ISO 8601, without months and years, whose length is not known."""

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
NAMES = {*TYPES.values()}
PLAIN = (type(None), bool, int, float, str)  # lists and objects take long to compare

SIMPLE: Mapping[int, Schema] = {
    SimpleType.NONE: Schema(type="null"),
    SimpleType.INTEGER: Schema(type="integer", format="int64"),
    SimpleType.FLOAT: Schema(type="number"),
    SimpleType.STRING: Schema(type="string"),
    SimpleType.BOOLEAN: Schema(type="boolean"),
    SimpleType.DATETIME: Schema(type="string", format="date-time"),
    SimpleType.DURATION: DURATION,
}

KEYWORDS: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("title", "description", "format"), (str,)),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), (int, float)),
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems"), (int,)),
    "const": PLAIN,
    "default": (bool, int, float, str),
}
"""Keywords with plain values, and the types of these. Only the task checks bounds."""


def inputs_schema(
    interface: TypedInterface, defaults: Iterable[NamedParameter], budget: Budget
) -> dict[str, Any]:
    """Return the schema of an object with a task's inputs; those with a default are optional.

    Those come last, in the task's order. Flyte does not keep the order of the others.
    """
    literals = {
        named.name: named.parameter.default
        for named in defaults
        if named.parameter.HasField("default")
    }
    builder, reader, properties = SchemaBuilder(budget), Reader(budget), {}
    for entry in interface.inputs.variables:
        properties[entry.key] = schema = builder.of_type(entry.value.type)
        if entry.value.description and "description" not in schema:
            schema["description"] = entry.value.description
        if entry.key in literals and "not" not in schema:
            try:
                schema["default"] = reader.read(literals[entry.key])
            except TooComplexError:
                schema["description"] = "the default is too large to be shown"
    required = [name for name in properties if name not in literals]
    ordered = [*required, *(name for name in literals if name in properties)]
    return {
        "$schema": DIALECT,
        "type": "object",
        "properties": {name: properties[name] for name in ordered},
        "required": required,
        "additionalProperties": False,
        **({"$defs": builder.definitions} if builder.definitions else {}),
    }


class SchemaBuilder:
    """Builds the schemas of one task's inputs, within a budget.

    Attributes:
        definitions: What references in the schemas point to.
    """

    def __init__(self, budget: Budget) -> None:
        self.definitions: dict[str, Schema] = {}
        self._spend = budget.spend
        self._reader = Reader(budget)

    def of_type(self, literal_type: LiteralType) -> Schema:
        """Return the schema of one value; add its definitions to ``definitions``."""
        try:
            return self._of_type(literal_type, 0)
        except TooComplexError:
            return _unsupported("the type is too large or nested too deep")

    def _of_type(self, kind: LiteralType, depth: int) -> Schema:
        self._spend(depth)
        given = self._reader.plain(kind.metadata)
        if kind.WhichOneof("type") != "simple" or kind.simple != SimpleType.STRUCT:
            schema = self._structure(kind, depth)
            schema = schema if "not" in schema else Schema(_plain_keywords(given) | schema)
        elif "pb_type" in given:
            schema = _unsupported("a message, whose fields Flyte does not describe")
        else:
            schema = self._of_document(given)
            if not schema.keys() & {"type", "$ref", "anyOf", "not"}:
                schema["type"] = "object"
        schema.kind = kind
        return schema

    def _structure(self, kind: LiteralType, depth: int) -> Schema:
        match kind.WhichOneof("type"):
            case "simple" if kind.simple in SIMPLE:
                return Schema(SIMPLE[kind.simple])
            case "collection_type":
                return Schema(type="array", items=self._of_type(kind.collection_type, depth + 1))
            case "map_value_type":
                items = self._of_type(kind.map_value_type, depth + 1)
                return Schema(type="object", additionalProperties=items)
            case "enum_type" if kind.enum_type.values:
                self._spend(depth, CHARS_OF_NODE * len(kind.enum_type.values) + kind.ByteSize())
                return Schema(type="string", enum=[*kind.enum_type.values])
            case "blob":
                of = blob_kind(kind.blob)
                return _unsupported(PICKLE) if of == "pickle" else _reference_to(of)
            case "structured_dataset_type":
                return _reference_to("dataframe")
            case "union_type" if kind.union_type.variants:
                variants = [self._of_type(of, depth + 1) for of in kind.union_type.variants]
                can_be_given = _unsupported(PICKLE) not in variants
                return Schema(anyOf=variants) if can_be_given else _unsupported(PICKLE)
        return _unsupported("a type that cannot be written as JSON")

    def _of_document(self, given: dict[str, Any]) -> Schema:
        """Return a copy of a whole schema; add copies of its definitions to ``definitions``."""
        known = given.get("$defs")
        known = known if isinstance(known, dict) else {}
        first = len(self.definitions) + 1  # of the inputs before
        names = {name: str(number) for number, name in enumerate(known, first)}
        made = {names[name]: self._of_schema(known[name], names) for name in known}
        for name, schema in made.items():
            # An Enum. A model takes its names or its values, a dataclass in it only its values.
            if "enum" in schema:
                title = schema.pop("title", "")
                made[name] = Schema(title=title, anyOf=[schema, ANY_VALUE])
        schema = self._of_schema(given, names)
        self.definitions |= made
        return schema

    def _of_schema(self, given: Any, names: Mapping[str, str]) -> Schema:
        """Copy the known keywords of a schema; ``names`` are its definitions' new names."""
        if not isinstance(given, dict):
            return Schema({"not": {}} if given is False else {})
        kept = Schema(_plain_keywords(given))
        if kept.get("format") == "base64":
            return _unsupported("bytes in a dataclass, whose decoder would keep them as text")
        for keyword, types in (("enum", PLAIN), ("required", (str,))):
            if _is_list_of(given.get(keyword), types):
                kept[keyword] = given[keyword]
        kinds = given.get("type")
        kinds = [kinds] if isinstance(kinds, str) else kinds
        # For an IntEnum the SDK lists names, but the type integer.
        if "enum" not in kept and _is_list_of(kinds, (str,)) and NAMES.issuperset(kinds):
            kept["type"] = given["type"] if kinds != given["type"] else [*dict.fromkeys(kinds)]
        prefix, _, name = str(given.get("$ref")).rpartition("/")
        if prefix == "#/$defs" and name in names:
            kept["$ref"] = f"#/$defs/{names[name]}"

        def copy(schema: Any) -> Schema:
            return self._of_schema(schema, names)

        if isinstance(items := given.get("items"), dict):
            kept["items"] = copy(items)
        if isinstance(rest := given.get("additionalProperties"), dict | bool):
            kept["additionalProperties"] = rest and copy(rest)
        if isinstance(properties := given.get("properties"), dict):
            kept["properties"] = {name: copy(schema) for name, schema in properties.items()}
        if isinstance(first := given.get("prefixItems"), list):
            kept["prefixItems"] = [*map(copy, first)]
        keys = given.get("propertyNames")
        if isinstance(keys, dict) and keys.get("type", "string") != "string":
            if keys["type"] != "integer":
                return _unsupported("an object whose keys are no texts and no integers")
            kept["propertyNames"] = INTEGERS
        for keyword in ("anyOf", "oneOf", "allOf"):
            variants = given.get(keyword)
            if isinstance(variants, list) and variants:  # in allOf, the SDK writes only one
                kept["anyOf"] = [*map(copy, variants)]
        return kept


def _reference_to(kind: str) -> Schema:
    text, uri = Schema(type="string"), Schema(type="string", format="uri")
    properties = {"kind": Schema(const=kind), "uri": uri, "format": text, "hash": text}
    return Schema(
        type=["string", "object"],
        description=f"the URI of a {kind}",
        format="uri",
        properties=properties,
        required=["uri"],
        additionalProperties=False,
    )


def _unsupported(why: str) -> Schema:
    return Schema({"not": {}, "description": why})


def _plain_keywords(given: dict[str, Any]) -> dict[str, Any]:
    # `{}` has no allowed type, so missing keys drop out.
    kept = {key: given[key] for key, types in KEYWORDS.items() if type(given.get(key, {})) in types}
    default = kept.get("default")
    if isinstance(default, int | float) and not abs(default) < 2**53:  # rounded, or NaN
        del kept["default"]
    return kept


def _is_list_of(values: Any, types: tuple[type, ...]) -> TypeGuard[list[Any]]:
    return (
        isinstance(values, list) and bool(values) and all(type(value) in types for value in values)
    )
