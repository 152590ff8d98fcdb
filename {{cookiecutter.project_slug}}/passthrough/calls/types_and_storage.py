"""Makes the SDK's types and its storage safe: values are JSON, and nothing is opened."""

import inspect
import sys
from collections import UserDict
from collections.abc import Iterable, Mapping
from inspect import Parameter
from itertools import islice
from types import SimpleNamespace
from typing import Annotated, Any, get_args

import httpx
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyte import remote
from flyte.types import TypeEngine, TypeTransformer, TypeTransformerFailedError
from flyteidl2.core.interface_pb2 import Variable, VariableEntry, VariableMap
from flyteidl2.core.literals_pb2 import Literal, LiteralMap
from flyteidl2.core.types_pb2 import LiteralType
from pydantic import ConfigDict, TypeAdapter, ValidationError

from ..values import InvalidInputs, to_json
from ..values.checking import Error
from ..values.inputs import Converter
from ..values.limits import MAX_NAMES, Budget
from ..values.outputs import Reader
from ..values.schemas import SchemaBuilder, holds_pickle
from .errors import NotForManyCallersError, TooLargeError
from .sdk import part
from .transport import UploadClient

MISSING = object()
ANY_CLASS = ConfigDict(arbitrary_types_allowed=True)


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
        """Translate an input; raise `InvalidInputs` if it does not fit the type."""
        return (await translate({"": python_val}, {"": Annotated[Any, self]}))[""]

    async def to_python_value(self, lv: Literal, expected_python_type: Any) -> Any:  # noqa: ARG002
        """Show a literal."""
        return to_json([("", lv)])[""]


class Given:
    """Hides an input from the SDK, which would walk through it, until it is translated."""

    def __init__(self, value: Any) -> None:
        self.value = value


class Outputs(tuple[Any, ...]):
    """The outputs of a run in the order of the task's interface, with their declared names."""

    names: list[str]


def change_types() -> None:
    """Turn stored values into JSON and nothing else, and open nothing that they refer to."""
    _change_types()
    _change_inputs()
    _change_answers()
    _change_rerun()
    _change_storage()


def declared(python_type: Any) -> LiteralType | None:
    """Return the declared type behind one of our types, or None if it is the app's own."""
    found = [each.kind for each in get_args(python_type) if isinstance(each, JsonTransformer)]
    return found[0] if found else None


async def translate(values: Mapping[str, Any], types: Mapping[str, Any]) -> dict[str, Literal]:
    """Translate the inputs of a task.

    A value that is not JSON is converted by the SDK: to the declared type if the task is the app's
    own, else to the value's own type, and then checked as JSON.

    Args:
        values: The inputs by name.
        types: The types of the task's inputs in Python.

    Raises:
        InvalidInputs: With all errors.
    """
    engine, literals, errors = TypeEngine, dict[str, Literal](), list[Error]()
    kinds = {k: declared(each) or engine.to_literal_type(each) for k, each in types.items()}
    converter = Converter({})
    converted = converter.convert(values, kinds)
    strange = {name for name, _ in converter.not_json}
    own = [name for name in kinds.keys() & values.keys() if not declared(types[name])]
    for name in own:  # only the converter, which has a budget, walks a type that others declared
        is_pickled = holds_pickle(kinds[name]) and not isinstance(values[name], remote.Artifact)
        if not (is_pickled or name in strange):
            continue
        try:
            value, python_type = values[name], types[name]
            if is_pickled and python_type is not Parameter.empty:  # JSON for a set, for example
                value = TypeAdapter(python_type, config=ANY_CLASS).validate_python(value)
            literals[name] = await engine.to_literal(value, python_type, kinds[name])
        except ValidationError as error:
            wrong = error.errors(include_url=False, include_input=False)
            errors += [((name, *each["loc"]), each["msg"]) for each in wrong]
        except NotForManyCallersError:
            raise
        except Exception:  # noqa: BLE001, S112 # then some of it may be JSON: see below
            continue
    settled = literals.keys() | {str(at[0]) for at, _ in errors}
    if settled or strange:
        by_sdk: dict[int, Literal] = {}
        for name, value in converter.not_json:
            if name not in settled:
                try:
                    kind = engine.to_literal_type(type(value))
                    by_sdk[id(value)] = await engine.to_literal(value, type(value), kind)
                except NotForManyCallersError:
                    raise
                except Exception:  # noqa: BLE001 # whatever it is, the value does not fit
                    by_sdk[id(value)] = Literal()
        converter = Converter(by_sdk)
        rest = {name: value for name, value in values.items() if name not in settled}
        converted = converter.convert(rest, kinds, settled)
    if errors := errors + converter.errors:
        raise InvalidInputs(errors)
    return literals | converted


def _change_types() -> None:
    """Guess no types, and convert literals only to types that the app itself asks for."""
    engine = part("flyte.types:TypeEngine")
    original, guess_interface = engine.to_python_value, part("flyte.types:guess_interface")

    def guess_python_type(_: Any, flyte_type: LiteralType) -> Any:
        return Annotated[Any, JsonTransformer(flyte_type)]

    def guess_python_types(_: Any, flyte_variable_list: Iterable[VariableEntry]) -> dict[str, Any]:
        entries = islice(flyte_variable_list, MAX_NAMES + 1)  # more are refused
        return {entry.key: guess_python_type(_, entry.value.type) for entry in entries}

    def guess_some(interface: Any, default_inputs: Iterable[Any] = ()) -> Any:
        return guess_interface(interface, islice(default_inputs, MAX_NAMES))

    async def to_python_value(_: Any, lv: Literal, expected_python_type: Any) -> Any:
        if declared(expected_python_type):
            return to_json([("", lv)])[""]
        try:
            shown = Reader(Budget()).read(lv)  # raises if it would take too long
            if holds_pickle(engine.to_literal_type(expected_python_type)):
                return TypeAdapter(expected_python_type, config=ANY_CLASS).validate_python(shown)
            return await original(lv, expected_python_type)
        except NotForManyCallersError:
            raise
        except Exception as error:  # noqa: BLE001 # its text, and its cause's, may hold the value
            what = f"not a {expected_python_type}: {type(error).__name__}: {error}"
            raise TypeTransformerFailedError(what[:300]) from None

    async def literal_map_to_kwargs(
        _: Any, lm: LiteralMap, python_types: Any = None, literal_types: Any = None
    ) -> dict[str, Any]:
        types, found = python_types or guess_python_types(_, literal_types), {}
        for name in types.keys() & {*lm.literals}:
            try:
                found[name] = await engine.to_python_value(lm.literals[name], types[name])
            except TypeTransformerFailedError as error:
                raise TypeTransformerFailedError(f"{name}: {error}") from None
        return found

    engine.guess_python_type = classmethod(guess_python_type)
    engine.guess_python_types = classmethod(guess_python_types)
    engine.to_python_value = classmethod(to_python_value)
    engine.literal_map_to_kwargs = classmethod(literal_map_to_kwargs)
    part("flyte.types").guess_interface = guess_some


def _change_inputs() -> None:
    """Translate the inputs of a run all at once, and report everything that is wrong with them."""
    engine, interface = part("flyte.types:TypeEngine"), part("flyte.models:NativeInterface")
    to_literal_map, json_schema = engine.dict_to_literal_map, interface.json_schema
    to_kwargs = interface.convert_to_kwargs

    async def dict_to_literal_map(_: Any, d: Any, type_hints: Any = None) -> LiteralMap:
        given = {name: each.value for name, each in d.items() if isinstance(each, Given)}
        types = {name: each for name, each in (type_hints or {}).items() if name in given}
        values = {name: value for name, value in given.items() if value is not MISSING}
        literals = await translate(values, types)
        own = {name: value for name, value in d.items() if name not in given}  # defaults
        made: LiteralMap = await to_literal_map(own, type_hints)
        return LiteralMap(literals={**made.literals, **literals})

    def convert_to_kwargs(self: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        if args and any(map(declared, self.get_input_types().values())):
            raise TypeError("name the inputs of a remote task: Flyte does not keep their order")
        kwargs |= to_kwargs(self, *args)
        kwargs |= {name: MISSING for name in self.required_inputs() if name not in kwargs}
        return {k: each if isinstance(each, Given) else Given(each) for k, each in kwargs.items()}

    def schema(self: Any) -> Any:
        kinds = {name: declared(each) for name, each in self.get_input_types().items()}
        if None in kinds.values():
            return json_schema.fget(self)
        entries = [VariableEntry(key=k, value=Variable(type=kind)) for k, kind in kinds.items()]
        variables, defaults = VariableMap(variables=entries), self._remote_defaults or {}
        return SchemaBuilder(Budget()).object_of(variables, defaults)

    engine.dict_to_literal_map = classmethod(dict_to_literal_map)
    interface.convert_to_kwargs, interface.json_schema = convert_to_kwargs, property(schema)
    # Larger pickles would be written to the disk, and to storage, which is refused below.
    part("flyte.types._pickle").DEFAULT_PICKLE_BYTES_LIMIT = sys.maxsize


def _change_answers() -> None:
    """Show a run's inputs and outputs as JSON, by their declared names."""
    convert, outputs = part("flyte._internal.runtime.convert"), part("flyte.remote:ActionOutputs")
    proxy = part("flyte.remote._client.controlplane:ClusterAwareDataProxy")
    run, new_as_it_was = part("flyte.remote:Run"), outputs.__new__
    get_action_data_as_it_was, post_init_as_it_was = proxy.get_action_data, run.__post_init__

    async def get_action_data(self: Any, request: Any) -> Any:
        data = await get_action_data_as_it_was(self, request)
        if max(len(data.inputs.literals), len(data.outputs.literals)) > MAX_NAMES:
            raise TooLargeError(f"the run has more than {MAX_NAMES} inputs or outputs")
        return data

    async def inputs_to_native(native_interface: Any, inputs: Any) -> dict[str, Any]:  # noqa: ARG001
        return to_json((each.name, each.value) for each in inputs.proto_inputs.literals)

    async def outputs_to_native(interface: Any, outputs: Any) -> Outputs | None:
        shown = to_json((each.name, each.value) for each in outputs.proto_outputs.literals)
        made = Outputs(shown.get(name) for name in interface.outputs)
        made.names = [*interface.outputs]
        return made if shown else None

    def new(cls: Any, pb2: Any, data: Any, fields: Any = None) -> Any:
        made = new_as_it_was(cls, pb2, data, fields)
        if isinstance(data, Outputs):
            made._fields, made.named_outputs = data.names, dict(zip(data.names, data, strict=True))
            for name, value in made.named_outputs.items():
                if not hasattr(made, name):
                    setattr(made, name, value)
        return made

    def post_init(self: Any) -> None:
        if not self.pb2.HasField("action"):
            raise ConnectError(Code.INTERNAL, "Flyte returned a run without an action")
        post_init_as_it_was(self)

    proxy.get_action_data, run.__post_init__ = get_action_data, post_init
    convert.convert_from_inputs_to_native = inputs_to_native
    convert.convert_outputs_to_native = outputs_to_native
    outputs.__new__ = staticmethod(new)
    part("flyte.remote:ActionInputs").__repr__ = UserDict.__repr__  # the SDK's fails for odd values


def _change_rerun() -> None:
    """Report everything that is wrong with changed inputs: the SDK reports only unknown ones."""
    runner = part("flyte._run:_Runner")
    rerun_as_it_was = runner.rerun.fn
    options = {*inspect.signature(rerun_as_it_was).parameters}

    async def rerun(self: Any, run_name: str, action_name: str = "a0", **given: Any) -> Any:
        try:
            return await rerun_as_it_was(self, run_name, action_name, **given)
        except ValueError:
            details = await remote.ActionDetails.get.aio(run_name=run_name, name=action_name)
            interface = details.pb2.task.task_template.interface
            types = part("flyte.types").guess_interface(interface).get_input_types()
            inputs = {name: value for name, value in given.items() if name not in options}
            await translate(inputs, {name: types[name] for name in types.keys() & inputs.keys()})
            raise

    runner.rerun = part("flyte.syncify:syncify")(rerun)


def _change_storage() -> None:
    """Load no pickles, and read and write no storage."""

    def load(*_: Any, **__: Any) -> Any:
        raise NotForManyCallersError(
            "a value that others stored would be opened, or run as code, with the app's own rights:"
            " let tasks read it"
        )

    def get_underlying_filesystem(*_: Any, **__: Any) -> Any:
        raise NotForManyCallersError(
            "the app would read and write storage with its own rights for every caller: upload"
            " files with flyte.remote.upload_file.aio(), pass them on by URI, as"
            " File.from_existing_remote(uri), and let tasks read them"
        )

    pickles = part("flyte.types._pickle")
    pickles.FlytePickle.from_pickle = pickles.FlytePickleTransformer.to_python_value = load
    part("flyte.types:TypeEngine").unwrap_offloaded_literal = load
    for storage in ("flyte.storage", "flyte.storage._storage"):
        part(storage).get_underlying_filesystem = get_underlying_filesystem

    part("flyte.remote._data").httpx = SimpleNamespace(
        **vars(httpx) | {"AsyncClient": UploadClient}
    )

    table, tables = (
        part(f"flyte.io._dataframe.dataframe:{name}")
        for name in ("DataFrame", "DataFrameTransformerEngine")
    )
    to_literal_as_it_was, is_remote = tables.to_literal, part("flyte.storage:is_remote")

    async def to_literal(self: Any, python_val: Any, python_type: Any, expected: Any) -> Any:
        is_reference = isinstance(python_val, table) and not python_val.lazy_uploader
        if is_reference and python_val.val is None and not is_remote(python_val.uri or ""):
            raise NotForManyCallersError(  # or it would be uploaded
                f"{python_val.uri!r} names a path of the app's own, not a table in storage"
            )
        return await to_literal_as_it_was(self, python_val, python_type, expected)

    tables.to_literal = to_literal
