"""Makes the SDK convert inputs from JSON, and stored inputs and outputs to JSON."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from anyio import to_thread
from flyteidl2.core.types_pb2 import LiteralType
from flyteidl2.task.common_pb2 import Inputs, Outputs

from ..limits import Budget, MoreWorkError
from ..values.inputs import InvalidInputs, to_literals
from ..values.outputs import to_json
from ..values.schemas import is_masked
from .request_state import this_request
from .sdk import sdk_object

T = TypeVar("T")

MASKED = "must be given, because the default of the task has stars instead of a secret"
MAX_NODES_IN_LOOP = 1_000  # the conversion of this many nodes takes 5 ms


async def translated(translate: Callable[[Budget], T]) -> T:
    """Convert values or types with ``translate``, and return the result.

    If there are more than `MAX_NODES_IN_LOOP` nodes, repeat the conversion in a thread, so that it
    does not block the event loop. The request needs a memory slot, so that only few
    conversions run at the same time. If the request ends, the conversion stops.
    """
    try:
        return translate(Budget(MAX_NODES_IN_LOOP, MoreWorkError))
    except MoreWorkError:
        state, budget = this_request(), Budget()
        await state.slot.acquire(state.deadline)  # `ResponseSender` releases this slot
        with state.calls.call_at_end(budget.end):
            return await to_thread.run_sync(translate, budget)


async def json_of(stored: Inputs | Outputs) -> dict[str, Any]:
    """Return stored inputs or outputs as JSON values by name."""
    named = [(literal.name, literal.value) for literal in stored.literals]
    return await translated(lambda budget: to_json(named, budget))


@dataclass(eq=False)  # the SDK needs hashable types, and `eq` would make instances unhashable
class DeclaredType:
    """Replaces the Python type that the SDK would build for an input or output of a task."""

    kind: LiteralType


def change_values() -> None:
    """Make the SDK convert stored values to JSON, without opening files to which values refer."""
    sdk_object("flyte.types:TypeEngine").guess_python_type = DeclaredType
    _change_inputs()
    _change_outputs()


def _change_inputs() -> None:
    """Make the SDK convert the inputs of a task from JSON with `to_literals`."""
    convert = sdk_object("flyte._internal.runtime.convert")
    add_defaults = convert._convert_from_native_to_inputs_impl

    async def bind(interface: Any, args: Any, kwargs: Any, custom_context: Any = None) -> Any:
        if args:
            raise TypeError("name the inputs of a remote task: Flyte does not keep their order")
        kinds = {name: of.kind for name, of in interface.get_input_types().items()}
        optional = kinds.keys() - {*interface.required_inputs()}
        literals = await translated(lambda budget: to_literals(kwargs, kinds, optional, budget))
        inputs = await add_defaults(interface, (), custom_context, {}, literals)
        added = {
            of.name: of.value for of in inputs.proto_inputs.literals if of.name not in literals
        }
        if masked := [name for name, value in added.items() if is_masked(value, kinds[name])]:
            raise InvalidInputs([((name,), MASKED) for name in masked])
        return inputs

    async def inputs_of_rerun(interface: Any, /, custom_context: Any = None, **changed: Any) -> Any:
        return await bind(interface, (), changed, custom_context)

    convert.convert_from_native_to_inputs_binding_artifacts = bind
    convert.convert_from_native_to_inputs = inputs_of_rerun


def _change_outputs() -> None:
    """Make the SDK return inputs as JSON values by name, and outputs as a tuple of JSON values."""
    convert = sdk_object("flyte._internal.runtime.convert")

    async def inputs_to_native(native_interface: Any, inputs: Any) -> dict[str, Any]:  # noqa: ARG001
        return await json_of(inputs.proto_inputs)

    async def outputs_to_native(interface: Any, outputs: Any) -> tuple[Any, ...]:
        values = await json_of(outputs.proto_outputs)
        # If a task has no outputs, return (None,), as the original function of the SDK does.
        return tuple(values.get(name) for name in interface.outputs) if values else (None,)

    convert.convert_from_inputs_to_native = inputs_to_native
    convert.convert_outputs_to_native = outputs_to_native
