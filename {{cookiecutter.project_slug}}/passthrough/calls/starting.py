"""Starts runs: while waiting for Flyte, holds what it sends only as bytes.

A task is a message of up to some megabytes, which takes 80 times as much memory once it is decoded.
The SDK would keep it, for a rerun three times, while it uploads the inputs and creates the run.
"""

from functools import partial
from io import BytesIO
from typing import Any

from flyte import remote
from flyte.syncify import syncify
from flyteidl2.dataproxy.dataproxy_service_pb2 import UploadInputsRequest
from flyteidl2.workflow.run_service_pb2 import CreateRunRequest
from google.protobuf.message import Message
from google.protobuf.proto import serialize_length_prefixed

from ..values.inputs import InvalidInputs
from .sdk import sdk_object


class Encoded:
    """A request as bytes. To the SDK, it looks like the message that it was made with."""

    def __init__(self, request: Any, **fields: Message | None) -> None:
        """Append these fields of the request, unless None, without a copy of the messages."""
        self._request, encoded = request, BytesIO()
        encoded.write(request.SerializeToString())
        for name, message in fields.items():
            if message is not None:
                number = request.DESCRIPTOR.fields_by_name[name].number
                encoded.write(bytes([number << 3 | 2]))  # the tag, if the number is below 16
                serialize_length_prefixed(message, encoded)
        self.SerializeToString = encoded.getvalue

    def __getattr__(self, name: str) -> Any:
        return getattr(self._request, name)


def change_starts() -> None:
    """Let the SDK prepare what starts a run, and send it once the SDK has let go of the task."""
    runner = sdk_object("flyte._run:_Runner")
    run_as_it_was, rerun_as_it_was = runner.run.fn, runner.rerun.fn

    async def run(self: Any, *args: Any, **given: Any) -> Any:
        start = await run_as_it_was(self, *args, **given)
        return await start() if isinstance(start, partial) else start  # of a dry run

    async def rerun(self: Any, /, *args: Any, **given: Any) -> Any:
        try:
            start = await rerun_as_it_was(self, *args, **given)
        except InvalidInputs:
            raise
        except ValueError as error:  # the SDK's, before it converts anything
            raise InvalidInputs([((), str(error))]) from None
        return await start()

    runner.run, runner.rerun, runner._submit_remote = syncify(run), syncify(rerun), _prepare


async def _prepare(
    self: Any, *, task_spec: Any, proto_inputs: Any, run_spec: Message, **of: Any
) -> Any:
    """Return what starts the run: a function that refers to nothing decoded."""
    target = {name: of[name] for name in ("run_id", "project_id", "task_id")}
    upload = UploadInputsRequest(**target, base_dir=self._run_base_dir)
    task = None if of["task_id"] else task_spec
    convert = sdk_object("flyte._internal.runtime.convert")
    ignored = [*task_spec.task_template.metadata.cache_ignore_input_vars]
    return partial(
        _start,
        Encoded(upload, task_spec=task, inputs=proto_inputs),
        Encoded(CreateRunRequest(**of), task_spec=task, run_spec=run_spec),
        convert.generate_content_inputs_hash(proto_inputs, ignored),
    )


async def _start(upload: Encoded, create: Encoded, inputs_hash: str | None) -> remote.Run:
    client = sdk_object("flyte._initialize:get_client")()
    if not create.HasField("offloaded_input_data"):
        stored = (await client.dataproxy_service.upload_inputs(upload)).offloaded_input_data
        stored.inputs_hash = inputs_hash or stored.inputs_hash
        create = Encoded(create, offloaded_input_data=stored)
    return remote.Run((await client.run_service.create_run(create)).run)
