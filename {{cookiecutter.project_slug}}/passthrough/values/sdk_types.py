"""Installs the translation in place of the SDK's own, from literals to Python values and back."""

from collections.abc import Mapping
from contextlib import suppress
from inspect import Parameter
from typing import Annotated, Any, NamedTuple, get_args

from flyte import remote
from flyte.types import TypeEngine, TypeTransformer
from flyteidl2.core.interface_pb2 import Variable, VariableEntry, VariableMap
from flyteidl2.core.literals_pb2 import Literal
from flyteidl2.core.types_pb2 import LiteralType
from pydantic import PydanticUserError, TypeAdapter, ValidationError

from .checking import Checker
from .inputs import InvalidInputs, Own, to_literals
from .limits import Budget, TooComplexError
from .outputs import to_json
from .schemas import SchemaBuilder, holds_pickle

PLAIN = (str, int, float, bool, type(None), Own)


class OwnInput(NamedTuple):
    """An input that the app itself made, and that is not JSON, or not only."""

    name: str
    value: Any


class JsonTransformer(TypeTransformer[Any]):
    """Represents a remote task's declared type in the SDK: values are JSON, in and out."""

    __hash__ = None  # type: ignore[assignment] # or ``typing`` would cache it

    def __init__(self, kind: LiteralType) -> None:
        super().__init__("json", object, enable_type_assertions=False)
        self.kind = kind

    def get_literal_type(self, t: Any = None) -> LiteralType:  # noqa: ARG002
        """Return the declared type."""
        return self.kind

    async def to_literal(self, python_val: Any, python_type: Any, expected: Any) -> Literal:  # noqa: ARG002
        """Translate an input.

        Raises:
            InvalidInputs: It does not fit the type.
        """
        return to_literals({"": await _translated(python_val)}, {"": self.kind})[""]

    async def to_python_value(self, lv: Literal, expected_python_type: Any) -> Any:  # noqa: ARG002
        """Show a literal."""
        return to_json([("", lv)])[""]


async def _translated(value: Any) -> Any:
    """Translate values that the app itself made and JSON cannot hold, by their own types."""
    if isinstance(value, list | tuple):
        return [await _translated(item) for item in value]
    if type(value) is dict:
        return {key: await _translated(item) for key, item in value.items()}
    if type(value) in PLAIN:
        return value
    kind = TypeEngine.to_literal_type(type(value))
    return Own(value, kind, await TypeEngine.to_literal(value, type(value), kind))


def _bound(value: Any) -> Any:
    """Use an artifact's stored value instead of the artifact, also as an item of a list.

    The artifact's declared type is not used: it may be wrong.
    """
    if isinstance(value, list):
        return [_bound(item) for item in value]
    if not isinstance(value, remote.Artifact):
        return value
    stored = Literal.FromString(value.pb2.spec.value.SerializeToString())
    stored.artifact_id.CopyFrom(value.artifact_version_id)
    kind = LiteralType()  # without a type, the value is converted from JSON
    match stored.scalar.WhichOneof("value"):
        case "blob":
            kind.blob.CopyFrom(stored.scalar.blob.metadata.type)
        case "structured_dataset":
            kind.structured_dataset_type.SetInParent()
    return Own(to_json([("", stored)])[""], kind, stored)


def _is_json(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_json, value))
    if type(value) is dict:
        return all(isinstance(key, str) and _is_json(item) for key, item in value.items())
    return type(value) in PLAIN


def _kind(python_type: Any) -> LiteralType | None:
    """Return the declared type behind one of our types."""
    transformers = [each for each in get_args(python_type) if isinstance(each, JsonTransformer)]
    return transformers[0].kind if transformers else None


def _kinds(interface: Any) -> dict[str, LiteralType] | None:
    """Return the declared types of a task's inputs, or None unless the task is remote."""
    kinds = {name: _kind(each[0]) for name, each in interface.inputs.items()}
    return None if None in kinds.values() else kinds  # type: ignore[return-value]


class _Values(dict[str, Any]):
    """Values by name; an output that is declared but that the run did not return is None."""

    def __missing__(self, name: str) -> None:
        return None


def _as_declared(checker: Checker, name: str, value: Any, python_type: Any) -> Any:
    """Convert JSON to a type of the app's own that Flyte pickles, such as ``Any`` or a set."""
    try:
        checker.check(value, {}, (name,), 0)
        python_type = Any if python_type is Parameter.empty else python_type
        return TypeAdapter(python_type).validate_python(value)
    except ValidationError as error:
        for each in error.errors(include_url=False, include_input=False):
            checker.fail((name, *each["loc"]), each["msg"])
    except TooComplexError:
        checker.fail((name,), "too large, or nested too deep")
    except PydanticUserError:
        checker.fail((name,), "cannot be given: a Python object, which Flyte stores as a pickle")


def _made(value: Any, python_type: Any) -> Any:
    """Convert a value with pydantic to a type that the app itself asks for."""
    return value if _kind(python_type) else TypeAdapter(python_type).validate_python(value)


def install(engine: Any, interface: Any) -> None:
    """Replace how the SDK guesses types, reads literals, and converts the inputs of a run.

    Args:
        engine: ``flyte.types.TypeEngine``.
        interface: ``flyte.models.NativeInterface``.
    """
    original, to_literal_as_it_was = interface.convert_to_kwargs, engine.to_literal
    json_schema = interface.json_schema

    def guess_python_type(_: Any, flyte_type: LiteralType) -> Any:
        return Annotated[Any, JsonTransformer(flyte_type)]

    async def to_python_value(_: Any, lv: Literal, expected_python_type: Any) -> Any:
        return _made(to_json([("", lv)])[""], expected_python_type)

    async def literal_map_to_kwargs(
        _: Any,
        lm: Any,
        python_types: Mapping[str, Any] | None = None,
        literal_types: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        names = literal_types or python_types or {}
        shown = to_json((name, lm.literals[name]) for name in names if name in lm.literals)
        types = python_types if python_types and not literal_types else {}
        return _Values(
            (name, _made(value, types[name]) if name in types else value)
            for name, value in shown.items()
        )

    async def to_literal(_: Any, python_val: Any, python_type: Any, expected: Any) -> Literal:
        if isinstance(python_val, Literal):  # converted already, together with the other inputs
            return python_val
        if not isinstance(python_val, OwnInput):
            return await to_literal_as_it_was(python_val, python_type, expected)  # type: ignore[no-any-return]
        if not _kind(python_type):
            with suppress(TypeError, ValueError, AssertionError):  # then some of it may be JSON
                return await to_literal_as_it_was(python_val.value, python_type, expected)  # type: ignore[no-any-return]
        values = {python_val.name: await _translated(python_val.value)}
        return to_literals(values, {python_val.name: expected})[python_val.name]

    def convert_to_kwargs(self: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        kinds, pickled, checker = _kinds(self), set(), Checker({}, Budget())
        if kinds is None:  # the app's own task
            kwargs |= original(self, *args)
            kinds = {name: engine.to_literal_type(each[0]) for name, each in self.inputs.items()}
            pickled = {name for name in kinds.keys() & kwargs.keys() if holds_pickle(kinds[name])}
        elif args:
            raise TypeError("name the inputs of a remote task: Flyte does not keep their order")
        try:
            kwargs = {name: _bound(value) for name, value in kwargs.items()}
            ready = {name for name, value in kwargs.items() if not _is_json(value)}
        except RecursionError:
            raise InvalidInputs([((), "nested too deep")]) from None
        kwargs |= {
            name: _as_declared(checker, name, kwargs[name], self.inputs[name][0])
            for name in pickled - ready
        }
        ready |= pickled
        optional = ready | (self.inputs.keys() - self.required_inputs())
        open_values = {k: value for k, value in kwargs.items() if k not in ready or k not in kinds}
        try:
            literals = to_literals(open_values, kinds, optional)
        except InvalidInputs as error:
            raise InvalidInputs(checker.errors + error.errors) from None
        if checker.errors:
            raise InvalidInputs(checker.errors)
        own = {name for name in ready if not isinstance(kwargs[name], Literal | OwnInput)}
        return kwargs | {name: OwnInput(name, kwargs[name]) for name in own} | literals

    def schema(self: Any) -> dict[str, Any]:
        kinds = _kinds(self)
        if kinds is None:
            return json_schema.fget(self)  # type: ignore[no-any-return]
        entries = [VariableEntry(key=k, value=Variable(type=kind)) for k, kind in kinds.items()]
        defaults = self._remote_defaults or {}
        return SchemaBuilder().object_of(VariableMap(variables=entries), defaults)

    engine.guess_python_type = classmethod(guess_python_type)
    engine.to_literal = classmethod(to_literal)
    engine.to_python_value = classmethod(to_python_value)
    engine.literal_map_to_kwargs = classmethod(literal_map_to_kwargs)
    interface.convert_to_kwargs = convert_to_kwargs
    interface.json_schema = property(schema)
