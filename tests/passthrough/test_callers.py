"""What one caller may take: requests, threads, values, connections; and its name in the log."""

import asyncio
import logging
import threading
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import flyte
import httpx
import pytest
import trustme
from fastapi import APIRouter, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from fastapi.testclient import TestClient
from flyte import remote

from app.routers import me, streams
from local_flyte import PEOPLE, LocalFlyte, ReceivedCall
from local_flyte.testing import client_of, ended, serving, start, wait_until
from passthrough.agents import serve_agents
from passthrough.calls import json_values, turns
from passthrough.calls.request_state import this_request
from passthrough.dependencies import Inputs, RequestBody
from passthrough.http import exchange
from passthrough.values.inputs import to_literals

from ..envoy import in_front_of
from .faulty import HOST, Proxy, connected, head
from .support import build_app

MOST = 5
router = APIRouter()
go_on = threading.Event()
entered = threading.Semaphore(0)


@router.get("/events", response_class=EventSourceResponse)
async def events() -> AsyncGenerator[ServerSentEvent]:
    yield ServerSentEvent(data=1)
    await remote.User.get.aio()  # which the test makes hang


@router.get("/thread")
def thread() -> str:
    return "served"


@router.get("/thread-of-asyncio")
async def thread_of_asyncio() -> str:
    return await asyncio.to_thread(thread)


@router.get("/held-thread")
def held_thread() -> None:
    entered.release()
    go_on.wait()


@router.get("/held-thread-of-asyncio")
async def held_thread_of_asyncio() -> None:
    await asyncio.to_thread(held_thread)


class Given(RequestBody):
    values: list[Any]


@router.post("/length")
async def length(given: Given) -> int:
    return len(given.values)


@router.post("/held-body")
async def held_body(given: Given) -> int:
    await held_thread_of_asyncio()
    return len(given.values)


@router.post("/upload", max_body_size=10_000_000)
async def upload(request: Request) -> None:
    async for _ in request.stream():
        entered.release()


@router.post("/same")
async def run_same(inputs: Inputs) -> dict[str, Any]:
    task = remote.Task.get("tests.same", auto_version="latest")
    run = await flyte.run.aio(task, **inputs)
    await run.abort.aio()  # the SDK takes 10 s to read 100,000 numbers in a task
    return dict(await run.inputs.aio())


@router.post("/same-in-thread")
def run_same_in_thread(inputs: Inputs) -> str:
    task = remote.Task.get("tests.same", auto_version="latest")
    return str(flyte.run(task, **inputs).name)


@pytest.fixture(autouse=True)
def _nothing_waits() -> Iterator[None]:
    go_on.clear()
    yield
    go_on.set()
    while entered.acquire(blocking=False):
        pass


@pytest.fixture(scope="module")
def url(local_flyte: LocalFlyte) -> Iterator[str]:
    with serving(build_app(router, open_requests_per_caller=MOST)) as url:
        yield url


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "bearer   {token}"},
        {"Authorization": "", "Cookie": "flyte_at={token}; flyte_at_2=invented-{0}"},
    ],
    ids=["another spelling", "two cookies"],
)
def test_a_caller_has_a_limited_number_of_open_requests(
    url: str, bob: httpx.Client, local_flyte: LocalFlyte, headers: dict[str, str]
) -> None:
    token = PEOPLE["alice"].token
    with local_flyte.hang("UserInfo"), client_of(url, "alice") as alice, ExitStack() as streams:
        for number in range(MOST):
            sent = {name: text.format(number, token=token) for name, text in headers.items()}
            stream = streams.enter_context(alice.stream("GET", "/events", headers=sent))
            assert stream.status_code == 200
        refused = alice.get("/thread")
        assert refused.status_code == 429
        assert int(refused.headers["Retry-After"]) > 0
        assert alice.get("/health").is_success  # which needs no credentials
        assert bob.get("/thread").json() == "served"
        streams.close()
        wait_until(lambda: alice.get("/thread").status_code == 200)


@pytest.mark.parametrize("path", ["/held-thread", "/held-thread-of-asyncio"])
def test_a_caller_cannot_hold_all_threads(local_flyte: LocalFlyte, path: str) -> None:
    most = 60  # more than the 40 threads that there are by default
    app = build_app(router, open_requests_per_caller=most)
    with (
        serving(app) as url,
        client_of(url, "alice") as alice,
        client_of(url, "bob") as bob,
        ThreadPoolExecutor(most) as do,
        ExitStack() as at_the_end,
    ):
        at_the_end.callback(go_on.set)  # also if this test fails
        waiting = [do.submit(alice.get, path) for _ in range(most)]
        for _ in range(most):
            assert entered.acquire(timeout=60)
        assert bob.get("/thread").json() == "served"
        assert bob.get("/thread-of-asyncio").json() == "served"
        go_on.set()
        assert {answer.result().status_code for answer in waiting} == {200}


def test_the_hash_in_the_log_is_of_the_credentials_and_another_one_after_a_restart(
    local_flyte: LocalFlyte, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def logged(app: Any, token: str) -> str:
        caplog.clear()
        with TestClient(app) as client:
            client.get("/thread", headers={"Authorization": f"Bearer {token}"})
        (fields,) = (vars(one)["fields"] for one in caplog.records if one.name == "app.access")
        return str(fields["caller"])

    monkeypatch.setattr(logging.getLogger("app.access"), "propagate", True)
    caplog.set_level(logging.INFO, "app.access")
    app, restarted = build_app(router), build_app(router)
    alice, bob = logged(app, "alices-token"), logged(app, "bobs-token")
    assert len(alice) == len(bob) == 12
    assert alice == logged(app, "alices-token")
    assert len({alice, bob, logged(restarted, "alices-token")}) == 3


def test_a_list_of_100000_numbers_is_an_input_and_is_shown(alice: httpx.Client) -> None:
    inputs = {"values": [*range(100_000)]}
    assert alice.post("/same", json=inputs).json() == inputs


def test_large_inputs_are_translated_one_of_a_caller_at_a_time_and_two_in_all(
    alice: httpx.Client, bob: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, begun = list[Any](), list[int]()
    may_end = defaultdict[int, threading.Semaphore](lambda: threading.Semaphore(0))

    def held(values: dict[str, Any], *more: Any) -> Any:
        asked.append(values)
        literals = to_literals(values, *more)  # raises an error if it is too much for the loop
        begun.append(number := values["values"][0])
        may_end[number].acquire()
        return literals

    monkeypatch.setattr(turns, "PLACE_SECONDS", 3600.0)
    monkeypatch.setattr(json_values, "to_literals", held)
    with (
        client_of(str(alice.base_url), "victor") as victor,
        ThreadPoolExecutor(5) as threads,
        ExitStack() as at_the_end,
    ):
        for number in range(5):
            at_the_end.callback(may_end[number].release, 5)
        answers = []
        requests = [(alice, "/same", 0), (alice, "/same-in-thread", 1), (alice, "/same", 2)]
        for client, path, number in (*requests, (bob, "/same", 3), (victor, "/same", 4)):
            body = {"values": [number] * 5_000}
            answers.append(threads.submit(client.post, path, json=body))
            wait_until(lambda: len({id(values) for values in asked}) == len(answers), 60)
        for number, expected in [(0, [0, 3]), (3, [0, 3, 4]), (1, [0, 3, 4, 1])]:
            wait_until(lambda: begun == expected, 60)  # noqa: B023
            may_end[number].release()
        at_the_end.close()
        assert [answer.result().status_code for answer in answers] == [200] * 4 + [403]


def test_a_thread_that_waits_to_translate_gets_an_answer_in_time(
    local_flyte: LocalFlyte, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def held(values: dict[str, Any], *more: Any) -> Any:
        literals = to_literals(values, *more)
        begun.set()
        may_end.wait()
        return literals

    monkeypatch.setattr(json_values, "to_literals", held)
    with (
        serving(build_app(router, flyte_timeout=1.0)) as url,
        client_of(url, "alice") as alice,
        ThreadPoolExecutor(1) as threads,
        ExitStack() as at_the_end,
    ):
        at_the_end.callback(may_end.set)
        body = {"values": [1] * 5_000}
        threads.submit(alice.post, "/same-in-thread", json=body)
        assert begun.wait(60)
        assert alice.post("/same-in-thread", json=body).status_code == 504


@pytest.mark.parametrize(
    ("values", "wrong"),
    [
        ("[-1e400, {}]", "-1e400 is no number"),
        ("[NaN]", "NaN is no number"),
        ('[{"a": 1, "\\u0061": 2}]', "an object in the JSON has the key 'a' twice"),
    ],
)
def test_what_json_does_not_have_is_refused(alice: httpx.Client, values: str, wrong: str) -> None:
    kind = {"Content-Type": "application/json"}
    answer = alice.post("/length", content=f'{{"values": {values}}}', headers=kind)
    assert answer.status_code == 422
    problem = answer.json()
    assert wrong in problem.get("errors", [problem])[0]["detail"]


LARGE = {"values": ["x" * 80_000]}


@pytest.mark.parametrize(("seconds", "at_once"), [(3600.0, 2), (0.01, 3)])
def test_a_caller_has_one_large_body_at_a_time_and_two_callers_have_a_place_for_some_seconds(
    alice: httpx.Client, bob: httpx.Client, monkeypatch: Any, seconds: float, at_once: int
) -> None:
    monkeypatch.setattr(turns, "PLACE_SECONDS", seconds)
    with (
        client_of(str(alice.base_url), "victor") as victor,
        ThreadPoolExecutor(4) as threads,
        ExitStack() as at_the_end,
    ):
        at_the_end.callback(go_on.set)
        clients = [alice, alice, bob, victor]
        large = [threads.submit(client.post, "/held-body", json=LARGE) for client in clients]
        for _ in range(at_once):
            assert entered.acquire(timeout=60)
        for _ in range(20):  # small ones do not wait
            assert alice.post("/length", json={"values": []}).json() == 0
        assert not entered.acquire(blocking=False)
        go_on.set()
        assert [answer.result().json() for answer in large] == [1] * 4


def test_a_large_body_is_not_read_from_somebody_whom_flyte_does_not_know(url: str) -> None:
    sent = ["Authorization: Bearer invented", "Content-Type: application/json"]
    for size in ("Content-Length: 1000000", "Content-Length: 5000", "Transfer-Encoding: chunked"):
        request = "\r\n".join(["POST /length HTTP/1.1", "Host: app", *sent, size, "\r\n"])
        with connected(url, request.encode()) as connection:  # and no byte of the body
            assert connection.recv(12) == b"HTTP/1.1 401"


def test_a_caller_has_five_uploads_open_at_most(local_flyte: LocalFlyte) -> None:
    app = build_app(router, open_requests_per_caller=100)
    upload = head("/upload", "Content-Length: 9000000").replace(b"GET", b"POST") + b"begun"
    with serving(app) as url, client_of(url, "alice") as alice, ExitStack() as uploads:
        for _ in range(5):
            uploads.enter_context(connected(url, upload))
            assert entered.acquire(timeout=60)
        refused = alice.get("/thread")
        assert refused.status_code == 429
        assert "an upload counts as 20" in refused.json()["detail"]
        uploads.close()
        wait_until(lambda: alice.get("/thread").status_code == 200)


@router.get("/unread")
async def unread() -> Response:
    await this_request().turn.begin()  # as what Flyte sends for a large answer does
    entered.release()
    return Response(bytes(10_000_000))


def test_a_caller_has_one_large_answer_that_its_client_does_not_read_and_not_for_long(
    url: str, alice: httpx.Client, bob: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "UNREAD_SECONDS", 3600.0)
    first, second = (connected(url, head("/unread"), 4096) for _ in range(2))
    with first, second:
        assert entered.acquire(timeout=60)
        assert len(bob.get("/unread").content) == 10_000_000
        assert entered.acquire(timeout=60)
        assert alice.get("/thread").json() == "served"
        assert not entered.acquire(blocking=False)
        first.close()
        second.close()
    monkeypatch.setattr(exchange, "UNREAD_SECONDS", 3.0)
    with connected(url, head("/unread"), 4096) as third:
        assert third.recv(12) == b"HTTP/1.1 200"
        assert len(alice.get("/unread").content) == 10_000_000


def call_tool(client: httpx.Client, name: str, **arguments: Any) -> str:
    """Return the text of a tool's result."""
    call = {"name": name, "arguments": arguments}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
    accept = {"Accept": "application/json, text/event-stream"}
    answer = client.post("/mcp", json=message, headers=accept)
    return str(answer.json()["result"]["content"][0]["text"])


def test_what_an_agent_sends_is_one_body_on_its_way_to_the_endpoint(
    local_flyte: LocalFlyte, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "PLACE_SECONDS", 3600.0)  # a second place would be waited for
    app = build_app(router, flyte_timeout=10.0)
    serve_agents(app)
    with serving(app) as url, client_of(url, "alice") as alice, ThreadPoolExecutor(4) as threads:
        sent = [threads.submit(call_tool, alice, "length", body=LARGE) for _ in range(4)]
        assert [answer.result() for answer in sent] == ["1"] * 4


def test_a_tool_call_is_one_open_request(local_flyte: LocalFlyte) -> None:
    app = build_app(router, open_requests_per_caller=2)
    serve_agents(app)
    with serving(app) as url, client_of(url, "alice") as alice, ThreadPoolExecutor(1) as thread:
        held = thread.submit(call_tool, alice, "held_thread_of_asyncio")
        assert entered.acquire(timeout=60)
        assert alice.get("/thread").json() == "served"
        go_on.set()
        assert held.result() == "null"


VIEWERS = 4  # three use up the window of an HTTP/2 connection


@pytest.fixture
def wire(local_flyte: LocalFlyte, tmp_path: Path) -> Iterator[Proxy]:
    """The way to an Envoy before the local Flyte, with HTTP/2, as ingresses have; both trusted."""
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
