"""Connections to Flyte: to which addresses, how many, and how much is read from them."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest

from app.routers import streams, tasks
from local_flyte import LocalFlyte
from local_flyte.testing import bearer, events, wait_until
from passthrough.calls import slots
from passthrough.http.response import SSE_RETRY
from passthrough.limits import Limits

from .. import naive_endpoints
from ..stub_servers import MEBIBYTE, StubServer, envelope, lines
from ..support import Received, connected, head, router_of

pytestmark = pytest.mark.usefixtures("certificate")
router = router_of(naive_endpoints, tasks, streams)
VIEWERS = 4


def test_redirect_is_not_followed(
    stub_client: httpx.Client, stub: StubServer, plain_stub: StubServer
) -> None:
    plain_stub.answers()
    stub.answers(location=f"{plain_stub.address}/sign-in")
    assert stub_client.get("/projects").status_code == 502
    assert stub.received[0]["headers"]["authorization"] == bearer("alice")
    assert plain_stub.received == []


def test_too_large_response_is_not_read(stub_client: httpx.Client, stub: StubServer) -> None:
    stub.answers(*[MEBIBYTE] * 10, is_all=False)
    assert stub_client.get("/runs/greet").status_code == 413


def ask(client: httpx.Client, run: str) -> list[int]:
    """Make every call for which Flyte may name another address: read data, read a log, run."""
    answers = (
        client.get(f"/runs/{run}/io"),
        client.get(f"/runs/{run}/log"),
        client.post("/tasks/tests.greet/run", json={"name": "Ada"}),
    )
    return [answer.status_code for answer in answers]


@pytest.mark.parametrize("scheme", ["https://", "", "dns:///"])
def test_calls_to_a_cluster_share_a_connection(
    alice: httpx.Client, local_flyte: LocalFlyte, stub: StubServer, greeting: str, scheme: str
) -> None:
    stub.answers()
    address = stub.address.replace("https://127.0.0.1", f"{scheme}localhost")
    with local_flyte.cluster_at(address):
        ask(alice, greeting)
    called = {call["path"].rpartition("/")[2] for call in stub.received}
    assert called == {"GetActionData", "TailLogs", "UploadInputs"}
    assert {call["headers"]["authorization"] for call in stub.received} == {bearer("alice")}
    assert len({call["client"] for call in stub.received}) == 1


def test_cluster_without_tls_receives_no_call(
    *,
    alice: httpx.Client,
    local_flyte: LocalFlyte,
    plain_stub: StubServer,
    greeting: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    plain_stub.answers()
    with local_flyte.cluster_at(plain_stub.address):
        assert ask(alice, greeting) == [502] * 3
    assert f"no credentials are sent to '{plain_stub.address}'" in caplog.text
    assert plain_stub.received == []


def test_http_url_of_configured_host_uses_tls(
    alice: httpx.Client, local_flyte: LocalFlyte, greeting: str
) -> None:
    own = local_flyte.app_environment()["_U_EP_OVERRIDE"].rpartition("/")[2]
    with local_flyte.cluster_at(f"http://{own}"):
        assert ask(alice, greeting) == [200] * 3


def test_concurrent_callers_share_no_cache(
    alice: httpx.Client,
    bob: httpx.Client,
    local_flyte: LocalFlyte,
    greeting: str,
    received: Received,
) -> None:
    path = f"/runs/{greeting}/io"
    with ThreadPoolExecutor(2) as threads:
        with local_flyte.hang("SelectCluster"):
            answers = [threads.submit(client.get, path) for client in (alice, bob)]
            wait_until(lambda: local_flyte.open_calls("SelectCluster") == 2)
        assert [answer.result().status_code for answer in answers] == [200, 200]
    alice.get(path)
    for method in ("SelectCluster", "GetActionData"):
        callers = [call.headers["authorization"] for call in received() if call.method == method]
        assert sorted(set(callers)) == sorted([bearer("alice"), bearer("bob")])
        assert callers.count(bearer("alice")) == 2 * callers.count(bearer("bob"))


# Streams: the local Flyte, with a cluster at the other server


def nothing_flows(stub: StubServer) -> bool:
    """Tell whether logs were sent, and nothing more for a second: all buffers are full."""
    before = stub.sent
    time.sleep(1)
    return 0 < before == stub.sent


def test_unread_logs_do_not_block_other_callers(
    *, url: str, bob: httpx.Client, stub: StubServer, log: Callable[..., None], greeting: str
) -> None:
    log(*[lines(*["x" * 1000] * 20)] * 1000)  # larger than all buffers on the way
    with ExitStack() as viewers:
        for _ in range(VIEWERS):
            request = head(f"/runs/{greeting}/logs")
            viewers.enter_context(connected(url, request, 65536))
        wait_until(lambda: len(stub.received) == VIEWERS)
        wait_until(lambda: nothing_flows(stub))
        with bob.stream("GET", f"/runs/{greeting}/logs") as log_of_bob:
            assert next(events(log_of_bob)).id == "1-1"
        assert len({call["client"] for call in stub.received}) == VIEWERS + 1


def test_slow_client_of_large_log_must_reconnect(
    *,
    url: str,
    bob: httpx.Client,
    log: Callable[..., None],
    greeting: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The slow client holds the memory slot for a while; then another client gets the log."""
    monkeypatch.setattr(slots, "HOLD_SECONDS", 0.5)
    log(lines(*["x" * 40_000] * 100), envelope(b"{}", 2))
    with connected(url, head(f"/runs/{greeting}/logs"), 4096) as slow:
        assert slow.recv(12) == b"HTTP/1.1 200"
        assert bob.get(f"/runs/{greeting}/logs").text.count("x") == 4_000_000
        received = b""
        while SSE_RETRY not in received[-100:] and (part := slow.recv(1 << 20)):
            received += part
        assert received.count(b"x") < 4_000_000
        assert SSE_RETRY in received


def test_too_large_stream_message_is_not_read(
    alice: httpx.Client, log: Callable[..., None], greeting: str
) -> None:
    announced = bytes(1) + (200 * len(MEBIBYTE)).to_bytes(4, "big")
    log(lines("one"), announced, MEBIBYTE, is_all=False)
    answer = alice.get(f"/runs/{greeting}/log")
    assert answer.status_code == 413
    assert str(Limits.max_message_bytes) in answer.json()["detail"]


def test_log_over_received_bytes_limit_is_413(
    alice: httpx.Client, log: Callable[..., None], greeting: str
) -> None:
    log(*[lines("x" * len(MEBIBYTE))] * 10, envelope(b"{}", 2))
    answer = alice.get(f"/runs/{greeting}/log")
    assert answer.status_code == 413
    assert str(Limits.max_received_bytes) in answer.json()["detail"]
    streamed = alice.get(f"/runs/{greeting}/logs")
    assert streamed.text.count("x") == 10 * len(MEBIBYTE)


def test_split_stream_messages_arrive_whole(
    alice: httpx.Client, log: Callable[..., None], greeting: str
) -> None:
    whole = b"".join(lines(f"line {n}") for n in range(30)) + envelope(b"{}", 2)
    log(*(whole[at : at + 7] for at in range(0, len(whole), 7)))
    read = alice.get(f"/runs/{greeting}/log").json()
    assert [line.strip() for line in read] == [f"line {n}" for n in range(30)]
