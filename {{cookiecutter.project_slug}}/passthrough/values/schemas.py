"""Converts literal types to JSON Schema (2020-12).

The type of a dataclass or a model contains a JSON Schema from the task's author. This schema is
untrusted input, so `SchemaBuilder` copies only the keywords that this module lists. The copy
omits ``pattern``, because matching a regular expression can take forever. The copy keeps each
``$ref`` instead of its target, so the copy is not larger than the source.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from flyteidl2.core.interface_pb2 import TypedInterface
from flyteidl2.core.literals_pb2 import Literal
from flyteidl2.core.types_pb2 import LiteralType, SimpleType
from flyteidl2.task.common_pb2 import NamedParameter

from ..limits import CHARS_PER_NODE, Budget, TooComplexError
from .outputs import Reader, blob_kind


class Schema(dict[str, Any]):
    """A JSON Schema and its Flyte type. The type is empty for a part of a dataclass or a model."""

    kind = LiteralType()
    is_model = False  # true for a Pydantic model and for the parts of a Pydantic model


SECRET = "*" * 10  # Pydantic writes this text instead of a secret
PICKLE = "a Python object, which Flyte stores as a pickle"
VALUE_OF_ENUM = Schema(type=["string", "integer", "number"])
DURATION = Schema(  # a year counts as 365 days, and months are refused
    type="string",
    format="duration",
    pattern=r"^-?P(?!$)(\d+Y)?(\d+W)?(\d+D)?(T(?=\d)(\d+H)?(\d+M)?(\d+(\.\d{1,6})?S)?)?$",
)

TYPES: Mapping[type, str] = {
    type(None): "null",
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}
"""JSON Schema names of the Python types that a JSON parser returns."""
NOTES = {
    "base64": "in Base64",
    "binary": "the task gets its UTF-8 bytes",
    "time-delta": "in seconds",
}
"""Texts to append to the description of a field. The keys are formats of fields."""
CONTAINERS = {"collection_type", "map_value_type", "union_type"}
"""Flyte types that contain other types."""
PLAIN = {type(None), bool, int, float, str}
"""Python types of allowed constants. Comparing a value to lists and objects would be slow."""

SIMPLE: Mapping[int, Schema] = {
    SimpleType.NONE: Schema(type="null"),
    SimpleType.INTEGER: Schema(type="integer", format="int64"),
    SimpleType.FLOAT: Schema(type="number"),
    SimpleType.STRING: Schema(type="string"),
    SimpleType.BOOLEAN: Schema(type="boolean"),
    SimpleType.DATETIME: Schema(type="string", format="date-time"),
    SimpleType.DURATION: DURATION,
}


def inputs_schema(
    interface: TypedInterface, defaults: Iterable[NamedParameter], budget: Budget
) -> dict[str, Any]:
    """Return the schema of an object whose fields are the inputs of a task.

    Inputs with a default come last, in the order of the task's parameters. Flyte does not store the
    order of inputs without a default.
    """
    stored = {of.name: of.parameter.default for of in defaults if of.parameter.HasField("default")}
    for entry in interface.inputs.variables:
        if entry.key in stored and is_masked(stored[entry.key], entry.value.type):
            del stored[entry.key]
    builder, properties = SchemaBuilder(budget), dict[str, Schema]()
    for entry in interface.inputs.variables:
        try:
            schema = builder.of_type(entry.value.type)
            if entry.key in stored and "not" not in schema:
                schema["default"] = builder.reader.read(stored[entry.key])
        except TooComplexError:
            schema = _unsupported("its type or default is too large, or nested too deep")
        _describe(schema, entry.value.description)
        properties[entry.key] = schema
    required = [name for name in properties if name not in stored]
    ordered = [*required, *(name for name in stored if name in properties)]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {name: properties[name] for name in ordered},
        "required": required,
        "additionalProperties": False,
        **({"$defs": builder.definitions} if builder.definitions else {}),
    }


class SchemaBuilder:
    """Builds the schemas of one task's inputs. A ``$ref`` in a schema points to ``definitions``."""

    def __init__(self, budget: Budget) -> None:
        self.definitions: dict[str, Schema] = {}
        self.reader, self._spend, self._is_model = Reader(budget), budget.spend, False

    def of_type(self, kind: LiteralType, depth: int = 0) -> Schema:
        """Return the schema for values of this type."""
        self._spend(depth)
        metadata = self.reader.plain(kind.metadata)
        if kind.simple != SimpleType.STRUCT:
            schema = self._structure(kind, depth)
            # Subtract the characters of the schema from the budget, because a type of two bytes may
            # become a schema of 300 characters. For a list, a map or a union, `_structure` has
            # already subtracted the schemas of the contained types.
            if kind.WhichOneof("type") not in CONTAINERS:
                self._spend(depth, len(str(schema)))
            _describe(schema, metadata.get("description"))
        elif "pb_type" in metadata:
            schema = _unsupported("a message, whose fields Flyte does not describe")
        else:
            self._is_model = kind.structure.tag.startswith("Pydantic")
            schema = self._of_document(metadata)
            if not schema.keys() & {"type", "$ref", "anyOf", "not"}:
                schema["type"] = "object"
        schema.kind = kind
        return schema

    def _structure(self, kind: LiteralType, depth: int) -> Schema:
        match kind.WhichOneof("type"):
            case "simple" if kind.simple in SIMPLE:
                return Schema(SIMPLE[kind.simple])
            case "collection_type":
                return Schema(type="array", items=self.of_type(kind.collection_type, depth + 1))
            case "map_value_type":
                items = self.of_type(kind.map_value_type, depth + 1)
                return Schema(type="object", additionalProperties=items)
            case "enum_type" if kind.enum_type.values:
                self._spend(depth, CHARS_PER_NODE * len(kind.enum_type.values) + kind.ByteSize())
                return Schema(type="string", enum=[*kind.enum_type.values])
            case "blob":
                name = blob_kind(kind.blob)
                return _unsupported(PICKLE) if name == "pickle" else _reference_to(name)
            case "structured_dataset_type":
                return _reference_to("dataframe")
            case "union_type" if kind.union_type.variants:
                variants = [self.of_type(part, depth + 1) for part in kind.union_type.variants]
                pickle = _unsupported(PICKLE)
                return pickle if pickle in variants else Schema(anyOf=variants)
        return _unsupported("a type that cannot be written as JSON")

    def _of_document(self, document: dict[str, Any]) -> Schema:
        defs = document.get("$defs")
        defs = defs if isinstance(defs, dict) else {}
        first = len(self.definitions) + 1  # definitions of earlier inputs use lower numbers
        names = {f"#/$defs/{name}": f"#/$defs/{number}" for number, name in enumerate(defs, first)}
        for number, schema in enumerate(defs.values(), first):
            copy = self._of_schema(schema, names)
            # The schema of an Enum lists only the names of the members. A model accepts the names
            # and the values of the members, but a dataclass in a model accepts only the values of
            # the members. Therefore allow any text or number for an Enum.
            is_enum = "enum" in copy
            self.definitions[str(number)] = Schema(anyOf=[copy, VALUE_OF_ENUM]) if is_enum else copy
        return self._of_schema(document, names)

    def _of_schema(self, source: Any, names: Mapping[str, str]) -> Schema:
        """Copy each keyword of a schema that this module knows and whose value is valid.

        ``names`` maps each ``$ref`` of the source to the ``$ref`` of the copy.
        """
        if not isinstance(source, dict):  # the schema `true` allows all values
            return Schema({"not": {}} if source is False else {})
        copy = Schema()
        copy.is_model = self._is_model
        for keyword, value in source.items():
            match keyword, value:
                case "format", "base64" if not self._is_model:
                    return _unsupported("bytes in Base64, which a dataclass would keep as text")
                case "propertyNames", {"type": keys} if keys not in ("string", "integer"):
                    return _unsupported("an object whose keys are no texts and no integers")
                case ("title" | "description" | "format" | "default", str()):
                    copy[keyword] = value
                # Omit a default of 2**53 or more, because the stored float may be rounded.
                case "default", bool() | int() | float() if abs(value) < 2**53:
                    copy[keyword] = value
                case "additionalProperties", False:
                    copy[keyword] = value
                case "const", _ if type(value) in PLAIN:
                    copy["enum"] = [value]
                case "enum", [_, *_] if PLAIN.issuperset(map(type, value)):
                    copy[keyword] = value
                case "required", list():
                    copy[keyword] = [name for name in value if isinstance(name, str)]
                case "type", str() if value in TYPES.values():
                    copy[keyword] = value
                case "$ref", str() if value in names:
                    copy[keyword] = names[value]
                case "items" | "additionalProperties", dict() | bool():
                    copy[keyword] = self._of_schema(value, names)
                case "properties", dict():
                    copy[keyword] = {key: self._of_schema(sub, names) for key, sub in value.items()}
                case "prefixItems", list():
                    copy[keyword] = [self._of_schema(sub, names) for sub in value]
                # The SDK writes only one schema into allOf, so the app can replace allOf by anyOf.
                case "anyOf" | "oneOf" | "allOf", list() if value:
                    copy["anyOf"] = [self._of_schema(variant, names) for variant in value]
        if "properties" in copy:
            # Refuse unknown fields, because Pydantic ignores them without an error.
            copy.setdefault("additionalProperties", False)
            # Flyte keeps only the order of ``required``, so put the required fields first.
            fields, first = copy["properties"], copy.get("required", ())
            ordered = (*(name for name in first if name in fields), *fields)
            copy["properties"] = {name: fields[name] for name in ordered}
        if _is_default_unclear(copy):
            copy.pop("default", None)
        if note := NOTES.get(copy.get("format", "")):
            about = copy.get("description")
            copy["description"] = f"{about} ({note})" if about else note
        # For an IntEnum, the SDK writes the type "integer", but lists the names of the members.
        if "enum" in copy:
            copy.pop("type", None)
        return copy


def is_masked(default: Literal, kind: LiteralType) -> bool:
    """Return whether a default contains a secret that Pydantic has replaced by stars."""
    texts = default.SerializeToString(), kind.SerializeToString()
    return SECRET.encode() in texts[0] and b"password" in texts[1]


def _reference_to(kind: str) -> Schema:
    text, uri = Schema(type="string"), Schema(type="string", format="uri")
    properties = {"kind": Schema(enum=[kind]), "uri": uri, "format": text, "hash": text}
    return Schema(
        type=["string", "object"],
        description=f"the URI of a {kind}",
        format="uri",
        properties=properties,
        required=["uri"],
        additionalProperties=False,
    )


def _is_default_unclear(schema: Schema) -> bool:
    """Return whether the task might read a different value if a client sends this default.

    The task might read a different value in three cases:

    - The field is a secret, so the default consists of stars.
    - The field is an Enum in a model, so the default is the value of a member. If this value is
      also the name of another member, the task would select the other member.
    - The field is a union. The schema does not say to which type of the union the default belongs.
    """
    null = SIMPLE[SimpleType.NONE]
    variants = [variant for variant in schema.get("anyOf", ()) if variant != null]
    first = variants[0] if variants else schema
    return len(variants) > 1 or "$ref" in first or first.get("format") == "password"


def _describe(schema: Schema, about: Any) -> None:
    """Set the author's description, but keep the description of an unsupported type."""
    if isinstance(about, str) and about and "not" not in schema:
        schema["description"] = about


def _unsupported(why: str) -> Schema:
    return Schema({"not": {}, "description": why})
