"""Makes the SDK take and return JSON: inputs, also of reruns, and outputs. Nothing is opened."""

import sys
import traceback
from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum
from inspect import signature
from typing import Annotated, Any, get_args

import msgpack
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyte.syncify import syncify
from flyte.types import TypeEngine
from flyteidl2.core.interface_pb2 import TypedInterface
from flyteidl2.core.literals_pb2 import Literal
from flyteidl2.core.types_pb2 import LiteralType

from ..limits import limits
from ..values import InvalidInputs, to_json, to_literals, translated
from ..values.budget import TOO_LARGE, Budget, TooComplexError
from ..values.inputs import unknown_inputs
from ..values.schemas import TYPES
from .errors import FLYTE_ERRORS, TooLargeError
from .sdk import sdk_object

RERUN_INPUTS: ContextVar[Iterable[str]] = ContextVar("RERUN_INPUTS", default=())
"""Set by our ``rerun`` for our ``guess_interface``, which the SDK calls without these names."""


# Unhashable, or ``typing`` would cache it for ever. Without a repr, which would be huge in logs.
@dataclass(repr=False)
class DeclaredType:
    """A type that a remote task declares. It stands where the SDK expects a Python type."""

    kind: LiteralType


def change_values() -> None:
    """Turn stored values into JSON and nothing else, and open nothing that they refer to."""
    _change_guesses()
    _change_inputs()
    _change_reruns()
    _change_outputs()


def kinds_of(interface: Any) -> dict[str, LiteralType]:
    """Return the declared types of a remote task's inputs, or none if the task is the app's own."""
    return {
        name: annotation.kind
        for name, python_type in interface.get_input_types().items()
        for annotation in get_args(python_type)
        if isinstance(annotation, DeclaredType)
    }


def is_json(value: Any, budget: Budget, depth: int = 0) -> bool:
    """Tell whether a value consists of JSON and enums only; charge for what is looked at."""
    budget.spend_on(value, depth)
    if type(value) is list:
        return all(is_json(item, budget, depth + 1) for item in value)
    if type(value) is dict:
        return all(is_json(item, budget, depth + 1) for item in value.values())
    return type(value) in TYPES or isinstance(value, Enum)


async def as_json(value: Any, budget: Budget) -> Any:
    """Return JSON as it is; of other values, the literal of a primitive, or what is stored."""
    if isinstance(value, list | tuple):
        return [await as_json(item, budget) for item in value]
    if isinstance(value, dict):
        return {key: await as_json(item, budget) for key, item in value.items()}
    if type(value) in TYPES or isinstance(value, Enum):
        return value
    try:
        kind = TypeEngine.to_literal_type(type(value))
        literal = await TypeEngine.to_literal(value, type(value), kind)
        if literal.scalar.binary.tag == "msgpack":  # a dataclass or a model; shown, it may change
            stored = literal.scalar.binary.value
            budget.spend(0, len(stored))
            return msgpack.unpackb(stored, strict_map_key=False, object_pairs_hook=_with_names)
    except Exception as error:
        if not _is_of_the_value(error):
            raise
        literal = Literal()
    return literal if literal.scalar.HasField("primitive") else to_json([("", literal)])[""]


def _with_names(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    named = {str(key) if type(key) is int else key: item for key, item in pairs}
    if len(named) < len(pairs):
        raise ValueError("1 and '1' are one name in JSON")
    return named


def _is_of_the_value(error: Exception) -> bool:
    """Tell whether a conversion failed for its value, and not for a bug of a serializer."""
    if isinstance(error, (ValueError, TypeError, AssertionError, OverflowError)):
        return True
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    # The SDK takes a wrong value for a right one: it calls a method of a model that is a text.
    return str(frame.f_globals.get("__name__")).startswith("flyte.")


def _change_guesses() -> None:
    """Make no Python types of what a task declares."""
    guess_interface = sdk_object("flyte.types:guess_interface")

    def guess_python_type(_: Any, flyte_type: LiteralType) -> Any:
        return Annotated[Any, DeclaredType(flyte_type)]

    def guess_few(interface: TypedInterface, default_inputs: Sequence[Any] = ()) -> Any:
        inputs, outputs = interface.inputs.variables, interface.outputs.variables
        if max(len(inputs), len(outputs)) > limits().names:
            raise TooLargeError(f"the task has more than {limits().names} inputs or outputs")
        guessed = guess_interface(interface, default_inputs)
        known = guessed.inputs.keys() - {"custom_context"}  # which is an argument of the SDK's own
        if unknown := unknown_inputs(RERUN_INPUTS.get(), known):  # the SDK would say so in a text
            raise InvalidInputs(unknown)
        return guessed

    sdk_object("flyte.types:TypeEngine").guess_python_type = classmethod(guess_python_type)
    for module in ("flyte.types", "flyte.types._interface"):
        sdk_object(module).guess_interface = guess_few


def _change_inputs() -> None:
    """Translate the inputs of a remote task all at once; those of the app's own, the SDK does."""
    convert = sdk_object("flyte._internal.runtime.convert")
    convert_own = convert.convert_from_native_to_inputs_binding_artifacts
    add_defaults = convert._convert_from_native_to_inputs_impl

    async def bind(interface: Any, args: Any, kwargs: Any, custom_context: Any = None) -> Any:
        kinds = kinds_of(interface)
        try:
            are_json = await translated(lambda budget: is_json(kwargs, budget))
            values = kwargs if are_json or not kinds else await as_json(kwargs, Budget())
        except TooComplexError:
            raise InvalidInputs([((), TOO_LARGE)]) from None
        if kinds:
            if args:
                raise TypeError("name the inputs of a remote task: Flyte does not keep their order")
            optional = kinds.keys() - {*interface.required_inputs()}
            literals = await translated(lambda todo: to_literals(values, kinds, optional, todo))
            return await add_defaults(interface, (), custom_context, {}, literals)
        if unknown := unknown_inputs(kwargs, interface.inputs):  # the SDK would leave them out
            raise InvalidInputs(unknown)
        try:  # its converters let other requests go on after ten items
            return await convert_own(interface, args, kwargs, custom_context)
        except Exception as error:
            if isinstance(error, FLYTE_ERRORS) or not _is_of_the_value(error):
                raise
            raise InvalidInputs([((), str(error)[: limits().error_chars])]) from None

    async def inputs_of_rerun(interface: Any, /, custom_context: Any = None, **changed: Any) -> Any:
        return await bind(interface, (), changed, custom_context)

    convert.convert_from_native_to_inputs_binding_artifacts = bind
    convert.convert_from_native_to_inputs = inputs_of_rerun
    # The SDK would write larger pickles to the disk, and to storage, which is refused.
    sdk_object("flyte.types._pickle").DEFAULT_PICKLE_BYTES_LIMIT = sys.maxsize


def _change_reruns() -> None:
    """Tell which inputs of a rerun are unknown, and that there may be no task to run again."""
    runner = sdk_object("flyte._run:_Runner")
    rerun_as_it_was = runner.rerun.fn

    async def rerun(self: Any, /, *args: Any, **given: Any) -> Any:
        arguments = signature(rerun_as_it_was).parameters.keys() - {
            "inputs"
        }  # which are all others
        changed = RERUN_INPUTS.set(given.keys() - arguments)
        try:
            return await rerun_as_it_was(self, *args, **given)
        except InvalidInputs:
            raise
        except ValueError as error:  # the SDK's, of a run without a task
            raise ConnectError(Code.FAILED_PRECONDITION, str(error)) from None
        finally:
            RERUN_INPUTS.reset(changed)

    runner.rerun = syncify(rerun)


def _change_outputs() -> None:
    """Return a run's outputs, and its inputs, as JSON, by their declared names."""
    convert = sdk_object("flyte._internal.runtime.convert")
    outputs = sdk_object("flyte.remote:ActionOutputs")
    new_as_it_was = outputs.__new__

    async def _shown(data: Any) -> dict[str, Any]:
        named = [(literal.name, literal.value) for literal in data.literals]
        return await translated(lambda budget: to_json(named, budget))

    async def inputs_to_native(native_interface: Any, inputs: Any) -> dict[str, Any]:  # noqa: ARG001
        return await _shown(inputs.proto_inputs)

    async def outputs_to_native(interface: Any, outputs: Any) -> dict[str, Any]:
        shown = await _shown(outputs.proto_outputs)
        if not shown or not interface.outputs:
            return {"o0": None}  # the SDK's own returns None here, which becomes (None,)
        return {name: shown.get(name) for name in interface.outputs}

    def new(cls: Any, pb2: Any, data: Any) -> Any:
        named = data[0] if data else {}
        made = new_as_it_was(cls, pb2, (*named.values(),))
        made._fields = [*named]
        return made

    convert.convert_from_inputs_to_native = inputs_to_native
    convert.convert_outputs_to_native = outputs_to_native
    outputs.__new__ = staticmethod(new)
