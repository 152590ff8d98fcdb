"""Makes the SDK's types and its storage safe: values are JSON, and nothing is opened."""

import sys
from collections import UserDict
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from enum import Enum
from itertools import islice
from types import SimpleNamespace
from typing import Annotated, Any, get_args

import httpx
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyte import remote
from flyte.io import DataFrame
from flyte.types import TypeEngine, TypeTransformer, TypeTransformerFailedError
from flyteidl2.core.interface_pb2 import Variable, VariableEntry, VariableMap
from flyteidl2.core.literals_pb2 import Literal, LiteralMap
from flyteidl2.core.types_pb2 import LiteralType

from ..values import InvalidInputs, to_json, to_literals
from ..values.inputs import Converter
from ..values.limits import MAX_NAMES, TOO_LARGE, Budget, TooComplexError
from ..values.outputs import Reader
from ..values.schemas import TYPES, Moment, SchemaBuilder
from .errors import FLYTE_ERRORS, NotForManyCallersError, TooLargeError
from .sdk import part
from .transport import UploadClient


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
        """Translate JSON; raise `InvalidInputs` if it does not fit the type."""
        return to_literals({"": python_val}, {"": self.kind})[""]

    async def to_python_value(self, lv: Literal, expected_python_type: Any) -> Any:  # noqa: ARG002
        """Show a literal."""
        return to_json([("", lv)])[""]


def change_types() -> None:
    """Turn stored values into JSON and nothing else, and open nothing that they refer to."""
    _change_types()
    _change_inputs()
    _change_answers()
    _change_storage()


def kinds_of(interface: Any) -> dict[str, LiteralType]:
    """Return the declared types of a remote task's inputs, or none if the task is the app's own."""
    return {
        name: each.kind
        for name, python_type in interface.get_input_types().items()
        for each in get_args(python_type)
        if isinstance(each, JsonTransformer)
    }


async def as_json(value: Any) -> Any:
    """Return JSON as it is, and other values as their literals are shown."""
    if isinstance(value, list | tuple):
        return [await as_json(item) for item in value]
    if isinstance(value, dict):
        return {key: await as_json(item) for key, item in value.items()}
    if type(value) in TYPES or isinstance(value, Enum):
        return value
    shown = to_json([("", await literal_of(value))], exact=True)[""]
    is_moment = isinstance(value, date | timedelta) and isinstance(shown, str)
    return Moment(shown) if is_moment else shown


async def literal_of(value: Any) -> Literal:
    """Return the literal of an artifact, or the one that the SDK makes of a value."""
    if isinstance(value, remote.Artifact):  # its declared type is not used: it may be wrong
        return value.pb2.spec.value
    try:
        kind = TypeEngine.to_literal_type(type(value))
        return await TypeEngine.to_literal(value, type(value), kind)
    except NotForManyCallersError:
        raise
    except Exception:  # noqa: BLE001 # whatever it is, the value does not fit
        return Literal()


def _change_types() -> None:
    """Guess no types, and convert literals only to types that the app itself asks for."""
    engine, guess_interface = part("flyte.types:TypeEngine"), part("flyte.types:guess_interface")
    convert, guess_all = engine.to_python_value, engine.guess_python_types

    def guess_python_type(_: Any, flyte_type: LiteralType) -> Any:
        return Annotated[Any, JsonTransformer(flyte_type)]

    def guess_python_types(_: Any, flyte_variable_list: Sequence[VariableEntry]) -> Any:
        if len(flyte_variable_list) > MAX_NAMES:
            raise TooLargeError(f"the task has more than {MAX_NAMES} inputs or outputs")
        return guess_all(flyte_variable_list)

    def guess_some(interface: Any, default_inputs: Iterable[Any] = ()) -> Any:
        return guess_interface(interface, islice(default_inputs, MAX_NAMES))

    async def to_python_value(_: Any, lv: Literal, expected_python_type: Any) -> Any:
        try:
            Reader(Budget()).read(lv)  # raises if it would take too long
            return await convert(lv, expected_python_type)
        except NotForManyCallersError:
            raise
        except Exception as error:  # noqa: BLE001 # its text, and its cause's, may hold the value
            what = f"not a {expected_python_type}: {type(error).__name__}: {error}"
            raise TypeTransformerFailedError(what[:300]) from None

    async def literal_map_to_kwargs(_: Any, lm: LiteralMap, python_types: Any) -> dict[str, Any]:
        names = python_types.keys() & {*lm.literals}
        return {k: await engine.to_python_value(lm.literals[k], python_types[k]) for k in names}

    engine.guess_python_type = classmethod(guess_python_type)
    engine.guess_python_types = classmethod(guess_python_types)
    engine.to_python_value = classmethod(to_python_value)
    engine.literal_map_to_kwargs = classmethod(literal_map_to_kwargs)
    part("flyte.types").guess_interface = guess_some


def _change_inputs() -> None:
    """Translate the inputs of a remote task all at once; those of the app's own, the SDK does."""
    interface = part("flyte.models:NativeInterface")
    convert = part("flyte._internal.runtime.convert")
    convert_own = convert.convert_from_native_to_inputs_binding_artifacts
    add_defaults, json_schema = convert._convert_from_native_to_inputs_impl, interface.json_schema

    async def bind(interface: Any, args: Any, kwargs: Any, custom_context: Any = None) -> Any:
        kinds = kinds_of(interface)
        try:
            Converter().check(kwargs, {}, (), 0)  # what follows walks through all of it
        except TooComplexError:
            raise InvalidInputs([((), TOO_LARGE)]) from None
        if kinds:
            if args:
                raise TypeError("name the inputs of a remote task: Flyte does not keep their order")
            optional = kinds.keys() - {*interface.required_inputs()}
            literals = to_literals(await as_json(kwargs), kinds, optional)
            for name, value in kwargs.items():
                if isinstance(value, remote.Artifact):
                    literals[name].artifact_id.CopyFrom(value.artifact_version_id)
            return await add_defaults(interface, (), custom_context, {}, literals)
        if unknown := kwargs.keys() - interface.inputs:  # the SDK would leave them out
            raise InvalidInputs([((name,), "the task has no such input") for name in unknown])
        try:
            return await convert_own(interface, args, kwargs, custom_context)
        except (NotForManyCallersError, *FLYTE_ERRORS):
            raise
        except Exception as error:  # noqa: BLE001 # what its converters raise varies by type
            raise InvalidInputs([((), str(error)[:300])]) from None

    async def convert_changed(interface: Any, /, custom_context: Any = None, **changed: Any) -> Any:
        return await bind(interface, (), changed, custom_context)

    def schema(self: Any) -> Any:
        kinds = kinds_of(self)
        if not kinds:
            return json_schema.fget(self)
        entries = [VariableEntry(key=k, value=Variable(type=kind)) for k, kind in kinds.items()]
        variables, defaults = VariableMap(variables=entries), self._remote_defaults or {}
        return SchemaBuilder(Budget()).object_of(variables, defaults)

    convert.convert_from_native_to_inputs_binding_artifacts = bind
    convert.convert_from_native_to_inputs = convert_changed
    interface.json_schema = property(schema)
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

    async def outputs_to_native(interface: Any, outputs: Any) -> dict[str, Any]:
        shown = to_json((each.name, each.value) for each in outputs.proto_outputs.literals)
        return {name: shown.get(name) for name in interface.outputs if shown} or {"o0": None}

    def new(cls: Any, pb2: Any, data: Any) -> Any:
        named = data[0] if data else {}
        made = new_as_it_was(cls, pb2, (*named.values(),))
        made._fields = [*named]
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


def _change_storage() -> None:
    """Load no pickles, and read and write no storage."""

    def refusal(why: str) -> Any:
        def refuse(*_: Any, **__: Any) -> Any:
            raise NotForManyCallersError(why)

        return refuse

    pickles, engine = part("flyte.types._pickle"), part("flyte.types:TypeEngine")
    pickles.FlytePickle.from_pickle = engine.unwrap_offloaded_literal = refusal(
        "a value that others stored would be opened, or run as code, with the app's own rights:"
        " let tasks read it"
    )
    pickles.FlytePickleTransformer.to_python_value = engine.unwrap_offloaded_literal
    for storage in ("flyte.storage", "flyte.storage._storage"):
        part(storage).get_underlying_filesystem = refusal(
            "the app would read and write storage with its own rights for every caller: upload"
            " files with flyte.remote.upload_file.aio(), pass them on by URI, as"
            " File.from_existing_remote(uri), and let tasks read them"
        )

    part("flyte.remote._data").httpx = SimpleNamespace(
        **vars(httpx) | {"AsyncClient": UploadClient}
    )

    tables = part("flyte.io._dataframe.dataframe:DataFrameTransformerEngine")
    to_literal_as_it_was, is_remote = tables.to_literal, part("flyte.storage:is_remote")

    async def to_literal(self: Any, python_val: Any, python_type: Any, expected: Any) -> Any:
        uri = python_val.uri if isinstance(python_val, DataFrame) else None
        if uri and not is_remote(uri):  # the SDK would upload it
            raise NotForManyCallersError(
                f"{uri!r} names a path of the app's own, not a table in storage"
            )
        return await to_literal_as_it_was(self, python_val, python_type, expected)

    tables.to_literal = to_literal
