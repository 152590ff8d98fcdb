"""The connections to Flyte, and from viewers: the trouble of one caller is nobody else's.

Flyte is behind an nginx that offers HTTP/2, as ingresses do.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import trustme

from app.routers import me, streams
from local_flyte import LocalFlyte, ReceivedCall
from local_flyte.testing import client_of, ended, serving, start, wait_until

from ..nginx import in_front_of
from .faulty import HOST, Proxy, connected, head
from .support import build_app

VIEWERS = 4  # three use up the window of an HTTP/2 connection


@pytest.fixture
def wire(local_flyte: LocalFlyte, tmp_path: Path) -> Iterator[Proxy]:
    """The way to an nginx in front of the local Flyte; both are trusted."""
    certificate, trusted, authority = tmp_path / "server.pem", tmp_path / "ca.pem", trustme.CA()
    authority.issue_cert(HOST).private_key_and_cert_chain_pem.write_to_path(certificate)
    trusted.write_bytes(local_flyte.ca_file.read_bytes() + authority.cert_pem.bytes())
    with (
        in_front_of(tmp_path, local_flyte.port, certificate) as port,
        closing(Proxy(port)) as wire,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("SSL_CERT_FILE", str(trusted))
        wire.listen()
        yield wire


def nothing_flows(wire: Proxy) -> bool:
    """Tell whether Flyte has sent data, and nothing more for a second: all buffers are full."""
    before = wire.forwarded
    time.sleep(1)
    return 0 < before == wire.forwarded


def test_viewers_who_do_not_read_a_log_stop_nobody_else(
    wire: Proxy, local_flyte: LocalFlyte, received: Callable[[], list[ReceivedCall]]
) -> None:
    long_log = ended(start("tests.shout"))  # larger than what HTTP/2 reads ahead
    flyte = f"dns:///{HOST}:{wire.port}"
    app = build_app(me.router, streams.router, flyte_endpoint=flyte, flyte_timeout=3.0)
    with serving(app) as url, client_of(url, "alice") as alice:
        assert alice.get("/me").is_success  # so that there is a connection to share
        with ExitStack() as viewers:
            for _ in range(VIEWERS):
                viewers.enter_context(connected(url, head(f"/runs/{long_log}/logs"), 65536))
            wait_until(lambda: [call.method for call in received()].count("TailLogs") == VIEWERS)
            wait_until(lambda: nothing_flows(wire))
            assert [alice.get("/me").status_code for _ in range(10)] == [200] * 10
        wait_until(lambda: local_flyte.open_calls("TailLogs") == 0)
