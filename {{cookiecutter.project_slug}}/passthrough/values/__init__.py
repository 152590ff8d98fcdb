"""Flyte's literals and types, translated to JSON and JSON Schema and back: data in, data out.

Anyone who can deploy a task or start a run controls the messages that are read here. So nothing in
them is ever loaded, imported, built, executed or opened, and the work on them is bounded. A value
that JSON cannot hold (a file, a pickle) is shown as a reference with its kind, URI and size.

``calls/json_values.py`` replaces the SDK's own translation with this one. In ``inputs``, a
value becomes a literal: the schema of its type, which ``schemas`` makes, says what to check.
"""

from .budget import translated
from .inputs import InvalidInputs, to_literals
from .outputs import to_json
from .schemas import inputs_schema

__all__ = ["InvalidInputs", "inputs_schema", "to_json", "to_literals", "translated"]
