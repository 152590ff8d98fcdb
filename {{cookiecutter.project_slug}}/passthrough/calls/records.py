"""Refuses records of Flyte that are too large to be read or shown, or that are none."""

from collections.abc import Callable
from typing import Any

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from google.protobuf import json_format

from ..limits import MAX_NAMES, MAX_RECORD_BYTES
from .errors import TooLargeError
from .sdk import sdk_object


def limit_records() -> None:
    """Refuse too many inputs or outputs, runs without an action, and too much to write as JSON."""
    proxy = sdk_object("flyte.remote._client.controlplane:ClusterAwareDataProxy")
    run, record = sdk_object("flyte.remote:Run"), sdk_object("flyte.remote._common:ToJSONMixin")
    get_action_data_as_it_was, post_init_as_it_was = proxy.get_action_data, run.__post_init__

    async def get_action_data(self: Any, request: Any) -> Any:
        data = await get_action_data_as_it_was(self, request)
        if max(len(data.inputs.literals), len(data.outputs.literals)) > MAX_NAMES:
            raise TooLargeError(f"the run has more than {MAX_NAMES} inputs or outputs")
        return data

    def post_init(self: Any) -> None:
        if not self.pb2.HasField("action"):  # Flyte's fault, and no bug of the app
            raise ConnectError(Code.INTERNAL, "Flyte returned a run without an action")
        post_init_as_it_was(self)

    proxy.get_action_data, run.__post_init__ = get_action_data, post_init
    record.to_dict, record.to_json = _bounded(record.to_dict), _bounded(record.to_json)


def _bounded(write: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Write only so much of Flyte's records as JSON that others need not wait."""

    def bounded(self: Any) -> Any:
        if hasattr(self, "pb2") and self.pb2.ByteSize() > MAX_RECORD_BYTES:
            raise TooLargeError("the record is too large to be written as JSON")
        try:
            return write(self)
        except (json_format.Error, ValueError):  # a number that is none, a time after 9999
            raise ConnectError(Code.INTERNAL, "JSON cannot hold the record") from None

    return bounded
