"""Makes the SDK's types and its storage safe: values are JSON, and nothing is opened."""

import inspect
import sys
from typing import Any

from flyte import remote

from ..values import sdk_types
from .errors import NotForManyCallersError
from .sdk import part


def change_types() -> None:
    """Turn stored values into JSON and nothing else, and open nothing that they refer to."""
    interface, runner = part("flyte.models:NativeInterface"), part("flyte._run:_Runner")
    sdk_types.install(part("flyte.types:TypeEngine"), interface)
    # Larger pickles would be written to the disk, and to storage, which is refused below.
    part("flyte.types._pickle").DEFAULT_PICKLE_BYTES_LIMIT = sys.maxsize
    rerun_as_it_was = runner.rerun.fn
    options = {*inspect.signature(rerun_as_it_was).parameters}

    async def rerun(self: Any, run_name: str, action_name: str = "a0", **given: Any) -> Any:
        try:
            return await rerun_as_it_was(self, run_name, action_name, **given)
        except ValueError:  # the SDK reports only unknown inputs: report everything that is wrong
            details = await remote.ActionDetails.get.aio(run_name=run_name, name=action_name)
            template = details.pb2.task.task_template
            known = part("flyte.types:guess_interface")(template.interface).inputs
            inputs = {name: value for name, value in given.items() if name not in options}
            kinds = {name: known[name] for name in known.keys() & inputs.keys()}
            interface(inputs=kinds, outputs={}).convert_to_kwargs(**inputs)
            raise

    runner.rerun = part("flyte.syncify:syncify")(rerun)

    def get_underlying_filesystem(*_: Any, **__: Any) -> Any:
        raise NotForManyCallersError(
            "the app would read and write storage with its own rights for every caller: upload"
            " files with flyte.remote.upload_file.aio(), pass them on by URI, as"
            " File.from_existing_remote(uri), and let tasks read them"
        )

    for storage in ("flyte.storage", "flyte.storage._storage"):
        part(storage).get_underlying_filesystem = get_underlying_filesystem

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
