"""Types as JSON schemas."""

import datetime as dt
from dataclasses import make_dataclass
from typing import Annotated, Any

import pytest
from flyte.io import File
from flyteidl2.core.interface_pb2 import Parameter
from flyteidl2.task.common_pb2 import NamedParameter
from google.protobuf import struct_pb2
from pydantic import Field, SecretStr, create_model

from passthrough.http.problems import Problem
from passthrough.limits import Budget
from passthrough.values.inputs import InvalidInputs, to_literals
from passthrough.values.schemas import inputs_schema

from ..support import as_the_sdk, type_of
from .hostile import CODE, MEBIBYTE, TYPES, VALUES, as_sent, interface_of, only_data, struct
from .kinds import Color, Owner, Tree, Wall


@pytest.mark.parametrize("name", TYPES)
def test_hostile_type_has_no_side_effects(name: str) -> None:
    kind = TYPES[name]
    interface = interface_of(a=kind)
    with only_data():
        schema = inputs_schema(interface, (), Budget())
    sent = as_sent(schema)
    assert len(sent) < MEBIBYTE
    assert "pattern" not in sent.replace(CODE, "")
    references = {part.split('"')[0] for part in sent.split('"$ref": "#/$defs/')[1:]}
    assert references <= schema.get("$defs", {}).keys()
    assert sent.count('"$ref": "') == sent.count('"$ref": "#/$defs/')
    refused: list[int] = []
    takes_any = "not" not in schema["properties"]["a"]
    for value in VALUES if takes_any else VALUES[:1]:
        try:
            with only_data():
                to_literals({"a": value}, {"a": kind}, (), Budget())
        except InvalidInputs as error:
            refused.append(Problem.of_exception(error).status)
    assert {*refused} <= {422}


Wait = make_dataclass("Wait", [("wait", dt.timedelta)])
Content = create_model("Content", content=bytes)


def test_input_schema_describes_each_type() -> None:
    kinds: dict[str, Any] = {
        "a": str, "b": int, "c": Color, "d": list[int], "e": Color | None, "g": bytes,
        "h": Annotated[int, Field(description="some")], "i": struct_pb2.Struct,
    }  # fmt: skip
    named = {name: type_of(kind) for name, kind in kinds.items()}
    fields = {"x": {"default": 2**53 - 1}, "y": {"default": 2**53}}  # this may have been rounded
    task = interface_of(**named, j=struct({"type": ["object"], "properties": fields}))
    task.inputs.variables[0].value.description = "who"
    defaults = [
        NamedParameter(name="g", parameter=Parameter(default=as_the_sdk(b"x", bytes))),
        NamedParameter(name="b", parameter=Parameter(default=as_the_sdk(5, int))),
    ]
    schema = inputs_schema(task, defaults, Budget())
    assert [*schema["properties"]] == ["a", "c", "d", "e", "h", "i", "j", "g", "b"]
    integer = {"type": "integer", "format": "int64"}
    assert schema == {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "a": {"type": "string", "description": "who"},
            "b": integer | {"default": 5},
            "c": {"type": "string", "enum": ["RED", "BLUE"]},
            "d": {"type": "array", "items": integer},
            "e": {"anyOf": [{"type": "string", "enum": ["RED", "BLUE"]}, {"type": "null"}]},
            "g": {"not": {}, "description": "a Python object, which Flyte stores as a pickle"},
            "h": integer | {"description": "some"},
            "i": {"not": {}, "description": "a message, whose fields Flyte does not describe"},
            "j": {
                "type": "object",
                "properties": {"x": {"default": 2**53 - 1}, "y": {}},
                "additionalProperties": False,
            },
        },
        "required": ["a", "c", "d", "e", "h", "i", "j"],
        "additionalProperties": False,
    }


def test_input_description_contains_task_description_and_format() -> None:
    described = create_model("Described", content=(bytes, Field(description="of the page")))
    kinds: dict[str, Any] = {"a": File, "b": File, "c": Wait, "d": Content, "e": described}
    task = interface_of(**{name: type_of(kind) for name, kind in kinds.items()}, f=type_of(bytes))
    for name in "af":
        (variable,) = (each for each in task.inputs.variables if each.key == name)
        variable.value.description = "the towns"
    found = inputs_schema(task, (), Budget())["properties"]
    fields = [field for of in found.values() for field in of.get("properties", {}).items()]
    assert {name: found[name].get("description") for name in "abf"} == {
        "a": "the towns", "b": "the URI of a file",
        "f": "a Python object, which Flyte stores as a pickle",
    }  # fmt: skip
    assert [field["description"] for name, field in fields if name in {"wait", "content"}] == [
        "in seconds",
        "the task gets its UTF-8 bytes",
        "of the page (the task gets its UTF-8 bytes)",
    ]


def test_input_schema_omits_ambiguous_defaults() -> None:
    """A form then leaves such a field out, and the task uses its own default."""
    fields: Any = {
        "kept": (float, 2.0), "maybe": (str | None, "x"), "secret": (SecretStr, SecretStr("s")),
        "color": (Color, Color.RED), "maybe_color": (Color | None, Color.RED),
        "day": (dt.datetime | dt.date, dt.date(2024, 1, 2)), "required": (int, ...),
    }  # fmt: skip
    task = interface_of(a=type_of(create_model("Defaults", **fields)))
    schema = inputs_schema(task, (), Budget())["properties"]["a"]
    found = schema["properties"]
    assert {name: of["default"] for name, of in found.items() if "default" in of} == {
        "kept": 2.0,
        "maybe": "x",
    }
    assert next(iter(found)) == "required"  # as the SDK stores a dataclass


def test_schema_references_are_not_expanded() -> None:
    kinds = {"a": Tree, "b": Owner, "c": Tree, "d": Wall}
    interface = interface_of(**{name: type_of(kind) for name, kind in kinds.items()})
    schema = inputs_schema(interface, (), Budget())
    pet = {"title": "Pet", "anyOf": [{"$ref": "#/$defs/2"}, {"$ref": "#/$defs/3"}]}
    assert schema["properties"]["b"]["properties"] == {"pet": pet}
    assert schema["properties"]["a"] == {"$ref": "#/$defs/1"}
    assert schema["properties"]["c"] == {"$ref": "#/$defs/4"}
    assert [*schema["$defs"]] == [str(number) for number in range(1, 8)]
    assert schema["$defs"]["4"]["properties"]["children"]["items"] == {"$ref": "#/$defs/4"}
    # The names of an enum are shown, and other values are left to the model.
    painted = next(of for of in schema["$defs"].values() if of.get("title") == "Painted")
    name = painted["properties"]["color"]["$ref"].rpartition("/")[2]
    assert schema["$defs"][name]["anyOf"][0] == {"title": "Color", "enum": ["RED", "BLUE"]}
