"""Flyte's literals and types, translated to JSON and JSON Schema and back: data in, data out.

Whoever may deploy a task or start a run writes the messages that are read here. So nothing in
them is ever loaded, imported, built, executed or opened, and the work on them is bounded. What JSON
cannot hold (a file, a pickle) is shown as a reference: what kind it is, where it is, how large.

``sdk_types`` puts this in the place of the SDK's own translation.
"""

from .inputs import InvalidInputs, to_literals
from .schemas import inputs_schema, outputs_schema
from .values import to_json

__all__ = ["InvalidInputs", "inputs_schema", "outputs_schema", "to_json", "to_literals"]
