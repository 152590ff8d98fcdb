"""What starts a run is what the SDK sends, byte for byte."""

import asyncio
import gzip
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import flyte
from flyte import remote
from flyte.io import File
from flyteidl2.dataproxy.dataproxy_service_pb2 import UploadInputsRequest
from flyteidl2.workflow.run_service_pb2 import CreateRunRequest
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from local_flyte import LocalFlyte
from local_flyte.testing import bearer
from passthrough.application import connect, load_settings
from passthrough.settings import Settings

from ..support import run_python

KINDS: dict[str, Any] = {"UploadInputs": UploadInputsRequest, "CreateRun": CreateRunRequest}
OPTIONS: dict[str, Any] = {
    "env_vars": {"A": "1"},
    "labels": {"b": "2"},
    "annotations": {"c": "3"},
    "custom_context": {"d": "4"},
    "interruptible": True,
    "overwrite_cache": True,
    "run_base_dir": "s3://bucket/base",
}
GREET = remote.Task.get("tests.greet", auto_version="latest")
LOOK = remote.Task.get("tests.look_at", auto_version="latest")
FILE = File.from_existing_remote("s3://bucket/key", file_cache_key="its hash")


async def overridden() -> Any:
    return await flyte.run.aio(await GREET.override.aio(short_name="salutation"), name="Ada")


STARTS: list[Callable[[str], Awaitable[Any]]] = [
    flyte.rerun.aio,
    lambda run: flyte.rerun.aio(run, recover=True, force_rerun_actions=["a1"]),
    lambda run: flyte.rerun.aio(run, name="Bob"),
    lambda run: flyte.rerun.aio(run, excited=True, name="Bob"),
    lambda run: flyte.with_runcontext("remote", **OPTIONS).rerun.aio(run, name="Bob"),
    lambda _: flyte.run.aio(GREET, name="Ada"),
    lambda _: flyte.with_runcontext("remote", **OPTIONS).run.aio(GREET, name="Ada"),
    lambda _: flyte.run.aio(LOOK, file=FILE),
    lambda _: overridden(),
]


def start_all(run: str, credential: str) -> None:
    """Start runs as somebody, one after the other."""

    async def start() -> None:
        await connect(load_settings(Settings))
        with remote.auth_metadata(("authorization", credential)):
            for each in STARTS:
                await each(run)

    asyncio.run(start())


@contextmanager
def sent(flyte: LocalFlyte) -> Iterator[list[bytes]]:
    """Yield what is sent to start runs, in the block; each upload has a URI of its own."""
    services, found = flyte._services.applications, list[bytes]()
    before = {**services}

    def recording(service: ASGIApp) -> ASGIApp:
        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            kind, body = KINDS.get(scope["path"].rpartition("/")[2]), b""

            async def received() -> Message:
                nonlocal body
                message = await receive()
                body += message.get("body", b"")
                if kind and not message.get("more_body"):
                    is_packed = Headers(scope=scope).get("content-encoding") == "gzip"
                    request = kind.FromString(gzip.decompress(body) if is_packed else body)
                    if kind is CreateRunRequest:
                        request.offloaded_input_data.uri = ""
                    found.append(request.SerializeToString(deterministic=True))
                return message

            await service(scope, received, send)

        return serve

    services.update({path: recording(service) for path, service in services.items()})
    try:
        yield found
    finally:
        services.update(before)


def test_the_sdks_own_requests_are_sent_byte_for_byte(
    local_flyte: LocalFlyte, greeting: str
) -> None:
    given = greeting, bearer("alice")
    with sent(local_flyte) as by_the_sdk:
        run_python(f"from {__name__} import start_all; start_all(*{given})")
    with sent(local_flyte) as by_the_app:
        start_all(*given)
    assert len(by_the_app) == 2 * len(STARTS)
    assert by_the_app == by_the_sdk
