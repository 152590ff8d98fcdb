"""Literal types to JSON Schema (2020-12).

The type of a dataclass or a model contains a JSON Schema from the author's SDK, which is untrusted
input. Only keywords listed here are kept, and not ``pattern``: matching a regular expression can
take for ever. References stay references, so a schema never grows beyond its source.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from flyteidl2.core.interface_pb2 import TypedInterface
from flyteidl2.core.types_pb2 import LiteralType, SimpleType
from flyteidl2.task.common_pb2 import NamedParameter

from ..limits import CHARS_PER_NODE, Budget, TooComplexError
from .outputs import Reader, blob_kind


class Schema(dict[str, Any]):
    """A JSON Schema, with the type of Flyte's that it describes; a part of a model has none."""

    kind = LiteralType()


PICKLE = "a Python object, which Flyte stores as a pickle"
VALUE_OF_ENUM = Schema(type=["string", "integer", "number"])
DURATION = Schema(  # without months; Pydantic writes 365 days as a year, and reads it so
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
"""JSON Schema's names for the Python types that JSON is parsed into."""
NOTES = {
    "base64": "in Base64",
    "binary": "the task gets its UTF-8 bytes",
    "time-delta": "in seconds",
}
"""What formats of models and dataclasses mean."""
CONTAINERS = {"collection_type", "map_value_type", "union_type"}  # types that consist of types
PLAIN = {type(None), bool, int, float, str}  # lists and objects take long to compare

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
    """Return the schema of an object with a task's inputs.

    Those with a default come last, in the task's order; Flyte does not keep that of the others.
    """
    stored = {of.name: of.parameter.default for of in defaults if of.parameter.HasField("default")}
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
    """Builds the schemas of one task's inputs; references in them point to ``definitions``."""

    def __init__(self, budget: Budget) -> None:
        self.definitions: dict[str, Schema] = {}
        self.reader, self._spend, self._is_model = Reader(budget), budget.spend, False

    def of_type(self, kind: LiteralType, depth: int = 0) -> Schema:
        """Return the schema of a value."""
        self._spend(depth)
        given = self.reader.plain(kind.metadata)
        if kind.simple != SimpleType.STRUCT:
            schema = self._structure(kind, depth)
            if kind.WhichOneof("type") not in CONTAINERS:  # else its parts were charged
                self._spend(depth, len(str(schema)))  # two bytes of a type may take 300 here
            _describe(schema, given.get("description"))
        elif "pb_type" in given:
            schema = _unsupported("a message, whose fields Flyte does not describe")
        else:
            self._is_model = is_model(kind)
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
                return Schema(type="array", items=self.of_type(kind.collection_type, depth + 1))
            case "map_value_type":
                items = self.of_type(kind.map_value_type, depth + 1)
                return Schema(type="object", additionalProperties=items)
            case "enum_type" if kind.enum_type.values:
                self._spend(depth, CHARS_PER_NODE * len(kind.enum_type.values) + kind.ByteSize())
                return Schema(type="string", enum=[*kind.enum_type.values])
            case "blob":
                of = blob_kind(kind.blob)
                return _unsupported(PICKLE) if of == "pickle" else _reference_to(of)
            case "structured_dataset_type":
                return _reference_to("dataframe")
            case "union_type" if kind.union_type.variants:
                variants = [self.of_type(of, depth + 1) for of in kind.union_type.variants]
                pickle = _unsupported(PICKLE)
                return pickle if pickle in variants else Schema(anyOf=variants)
        return _unsupported("a type that cannot be written as JSON")

    def _of_document(self, given: dict[str, Any]) -> Schema:
        known = given.get("$defs")
        known = known if isinstance(known, dict) else {}
        first = len(self.definitions) + 1  # of the inputs before
        names = {f"#/$defs/{name}": f"#/$defs/{number}" for number, name in enumerate(known, first)}
        for number, schema in enumerate(known.values(), first):
            made = self._of_schema(schema, names)
            # An Enum. The schema lists its names. A model takes those or its values, a dataclass
            # within it only its values: so any text or integer passes.
            is_enum = "enum" in made
            self.definitions[str(number)] = Schema(anyOf=[made, VALUE_OF_ENUM]) if is_enum else made
        return self._of_schema(given, names)

    def _of_schema(self, given: Any, names: Mapping[str, str]) -> Schema:
        """Copy what is known and has the right form; ``names`` are the new references."""
        if not isinstance(given, dict):  # true allows everything
            return Schema({"not": {}} if given is False else {})
        kept = Schema()
        for keyword, value in given.items():
            match keyword, value:
                case "format", "base64" if not self._is_model:
                    return _unsupported("bytes in Base64, which a dataclass would keep as text")
                case "propertyNames", {"type": keys} if keys not in ("string", "integer"):
                    return _unsupported("an object whose keys are no texts and no integers")
                case ("title" | "description" | "format" | "default", str()):
                    kept[keyword] = value
                case "default", bool() | int() | float() if abs(value) < 2**53:  # else rounded
                    kept[keyword] = value
                case "additionalProperties", False:
                    kept[keyword] = value
                case "const", _ if type(value) in PLAIN:
                    kept["enum"] = [value]
                case "enum", [_, *_] if PLAIN.issuperset(map(type, value)):
                    kept[keyword] = value
                case "required", list():
                    kept[keyword] = [name for name in value if isinstance(name, str)]
                case "type", str() if value in TYPES.values():
                    kept[keyword] = value
                case "$ref", str() if value in names:
                    kept[keyword] = names[value]
                case "items" | "additionalProperties", dict() | bool():
                    kept[keyword] = self._of_schema(value, names)
                case "properties", dict():
                    kept[keyword] = {key: self._of_schema(of, names) for key, of in value.items()}
                case "prefixItems", list():
                    kept[keyword] = [self._of_schema(of, names) for of in value]
                case "anyOf" | "oneOf" | "allOf", [_, *_]:  # in allOf, the SDK writes only one
                    kept["anyOf"] = [self._of_schema(of, names) for of in value]
        if "properties" in kept:  # Pydantic would silently ignore others
            kept.setdefault("additionalProperties", False)
            # The SDK stores required fields first, in this order.
            fields, first = kept["properties"], kept.get("required", ())
            ordered = (*(name for name in first if name in fields), *fields)
            kept["properties"] = {name: fields[name] for name in ordered}
        if _is_default_unclear(kept):
            kept.pop("default", None)
        if note := NOTES.get(kept.get("format", "")):
            about = kept.get("description")
            kept["description"] = f"{about} ({note})" if about else note
        if "enum" in kept:  # for an IntEnum, the SDK lists names, but the type "integer"
            kept.pop("type", None)
        return kept


def is_model(kind: LiteralType) -> bool:
    """Return whether a type is a Pydantic model, and not a dataclass."""
    return kind.structure.tag.startswith("Pydantic")


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
    """Return whether the task might read the default, if it were sent, as another value.

    A secret's default is stars, the default of a model's Enum is a value and may be another
    member's name, and the type of a union's default is unknown.
    """
    variants = [of for of in schema.get("anyOf", ()) if of != SIMPLE[SimpleType.NONE]]
    first = variants[0] if variants else schema
    return len(variants) > 1 or "$ref" in first or first.get("format") == "password"


def _describe(schema: Schema, about: Any) -> None:
    """Let the author's description replace a general one, but not the reason of a refusal."""
    if isinstance(about, str) and about and "not" not in schema:
        schema["description"] = about


def _unsupported(why: str) -> Schema:
    return Schema({"not": {}, "description": why})
