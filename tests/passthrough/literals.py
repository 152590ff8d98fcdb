"""Interfaces of tasks, and their inputs as literals."""

from collections.abc import Collection, Mapping
from typing import Any

from flyteidl2.core.interface_pb2 import TypedInterface, Variable
from flyteidl2.core.literals_pb2 import Literal
from flyteidl2.core.types_pb2 import LiteralType

from passthrough.values import InvalidInputs
from passthrough.values.inputs import Converter


def to_literals(
    values: Mapping[str, Any], kinds: Mapping[str, LiteralType], optional: Collection[str] = ()
) -> dict[str, Literal]:
    """Convert JSON to inputs, or raise InvalidInputs."""
    converter = Converter({})
    literals = converter.convert(values, kinds, optional)
    if converter.errors:
        raise InvalidInputs(converter.errors)
    return literals


def interface_of(
    outputs: Mapping[str, LiteralType] = {}, /, **inputs: LiteralType
) -> TypedInterface:
    """Make the interface of a task."""
    made = TypedInterface()
    for variables, kinds in ((made.inputs.variables, inputs), (made.outputs.variables, outputs)):
        for name, kind in kinds.items():
            variables.add(key=name, value=Variable(type=kind))
    return made


def kinds_of(interface: TypedInterface) -> dict[str, LiteralType]:
    """Return the types of a task's inputs."""
    return {entry.key: entry.value.type for entry in interface.inputs.variables}
