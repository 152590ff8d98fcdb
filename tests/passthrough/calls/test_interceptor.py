"""Each call is made once, as the caller, with a deadline."""

from collections.abc import Callable

import httpx
import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyte import remote

from app.routers import streams
from local_flyte import LocalFlyte
from local_flyte.testing import wait_until

from .. import naive_endpoints
from ..stub_servers import StubServer, envelope, lines
from ..support import Called, Received, router_of

pytestmark = pytest.mark.usefixtures("certificate")
router = router_of(naive_endpoints, streams)


def test_stream_can_be_idle_beyond_timeout(
    short_timeout: httpx.Client, local_flyte: LocalFlyte, counting: str, called: Called
) -> None:
    call = "WatchActions"
    with local_flyte.hang(call, after=1), short_timeout.stream("GET", f"/runs/{counting}/events"):
        wait_until(lambda: local_flyte.open_calls(call))
        with local_flyte.hang("UserInfo"):
            assert short_timeout.get("/whoami").status_code == 504  # after the timeout
        assert called(call) == 1
        assert local_flyte.open_calls(call) == 1


@pytest.mark.usefixtures("alice")  # her app has initialised the SDK
async def test_call_without_credentials_is_not_sent(received: Received) -> None:
    with pytest.raises(ConnectError, match="there are no credentials of a caller here"):
        await remote.User.get.aio()
    assert received() == []


@pytest.mark.parametrize(
    ("path", "method", "code", "status"),
    [
        ("POST /tasks/tests.greet/run", "CreateRun", Code.UNAVAILABLE, 503),
        ("GET /whoami", "UserInfo", Code.UNAUTHENTICATED, 401),
    ],
)
def test_failed_call_is_not_repeated(
    *,
    alice: httpx.Client,
    local_flyte: LocalFlyte,
    called: Called,
    path: str,
    method: str,
    code: Code,
    status: int,
) -> None:
    local_flyte.fail_next(method, code, message="unauthorized")
    assert alice.request(*path.split(), json={"name": "Ada"}).status_code == status
    assert called(method) == 1


def test_hanging_stream_ends_at_deadline(
    short_timeout: httpx.Client, local_flyte: LocalFlyte, counting: str
) -> None:
    # The task prints and goes on: half a log is no log. Before it prints, there is none.
    wait_until(lambda: short_timeout.get(f"/runs/{counting}/log").status_code == 504)
    wait_until(lambda: local_flyte.open_calls("TailLogs") == 0)
    with local_flyte.hang("WatchActions"):
        assert short_timeout.get(f"/runs/{counting}/events").status_code == 504
        wait_until(lambda: local_flyte.open_calls("WatchActions") == 0)


@pytest.mark.parametrize(
    "end", [(), (b"\0\0\0\0\x09half",), (envelope(b'{"error": {"code": "unavailable"}}', 2),)]
)
def test_interrupted_log_is_503_without_retry(
    alice: httpx.Client,
    stub: StubServer,
    log: Callable[..., None],
    greeting: str,
    end: tuple[bytes, ...],
) -> None:
    log(lines("one"), lines("two", "three"), *end)
    assert alice.get(f"/runs/{greeting}/log").status_code == 503
    assert len(stub.received) == 1
    *blocks, last = alice.get(f"/runs/{greeting}/logs").text.split("\n\n")[:-1]
    assert blocks == ["data: one\nid: 1-1", "data: two\nid: 1-2", "data: three\nid: 1-3"]
    assert last.startswith("event: problem\n")
    assert '"status":503' in last.replace(" ", "")
