"""The connections to Flyte, and from viewers: the trouble of one caller is nobody else's.

Flyte is behind an nginx that offers HTTP/2, as ingresses do.
"""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest
import trustme
from fastapi import APIRouter
from flyte import remote

from app.routers import streams
from local_flyte import LocalFlyte, ReceivedCall
from local_flyte.testing import client_of, ended, serving, start, wait_until

from ..nginx import in_front_of
from .faulty import HOST, Proxy, connected, head
from .support import build_app

TIMEOUT = 3.0  # enough for a call on a busy machine
router = APIRouter()


@router.get("/me")
async def me() -> str:
    return (await remote.User.get.aio()).name()


@pytest.fixture(scope="module")
def wire(local_flyte: LocalFlyte, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """The way to an nginx in front of the local Flyte."""
    folder, authority = tmp_path_factory.mktemp("ingress"), trustme.CA()
    authority.issue_cert(HOST).private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    trusted = local_flyte.ca_file.read_bytes() + authority.cert_pem.bytes()
    (folder / "trusted.pem").write_bytes(trusted)
    with (
        in_front_of(folder, local_flyte.port, certificate=folder / "server.pem") as port,
        closing(Proxy(port)) as wire,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("SSL_CERT_FILE", str(folder / "trusted.pem"))
        wire.listen()
        yield wire


@pytest.fixture(scope="module")
def long_log(local_flyte: LocalFlyte) -> str:
    """The name of a run with a log that is larger than what HTTP/2 reads ahead."""
    return ended(start("tests.shout"))


@pytest.fixture(scope="module")
def url(wire: Proxy, long_log: str) -> Iterator[str]:
    """The URL of an app that calls Flyte through the nginx, as this process does from now on."""
    flyte = f"dns:///{HOST}:{wire.port}"
    app = build_app(router, streams.router, flyte_endpoint=flyte, flyte_timeout=TIMEOUT)
    with serving(app) as url:
        yield url


def viewer(url: str, run: str) -> socket.socket:
    """Connect a viewer of a log who does not read it."""
    return connected(url, head(f"/runs/{run}/logs"), 65536)


def nothing_flows(wire: Proxy) -> bool:
    """Tell whether Flyte has sent data, and nothing more for a second: all buffers are full."""
    before = wire.forwarded
    time.sleep(1)
    return 0 < before == wire.forwarded


def test_viewers_who_do_not_read_a_log_stop_nobody_else(
    *,
    url: str,
    wire: Proxy,
    local_flyte: LocalFlyte,
    long_log: str,
    received: Callable[[], list[ReceivedCall]],
) -> None:
    viewers = 4  # three use up the window of an HTTP/2 connection
    with client_of(url, "alice") as alice:
        assert alice.get("/me").is_success  # so that there is a connection to share
        with ExitStack() as stack:
            for _ in range(viewers):
                stack.enter_context(viewer(url, long_log))
            wait_until(lambda: [call.method for call in received()].count("TailLogs") == viewers)
            wait_until(lambda: nothing_flows(wire))
            assert [alice.get("/me").status_code for _ in range(10)] == [200] * 10
        wait_until(lambda: local_flyte.open_calls("TailLogs") == 0)
