"""If something fails, the caller gets the right problem, in time, without secrets."""

import asyncio
import http.client
import logging
import socket
import socketserver
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import flyte
import flyte.errors
import httpx
import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from fastapi import APIRouter, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.sse import EventSourceResponse, ServerSentEvent
from flyte import remote
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from local_flyte import PEOPLE, LocalFlyte
from local_flyte.testing import bearer, client_of, serving, wait_until
from passthrough.calls.errors import DeadlineExceededError, TooLargeError
from passthrough.requests.door import Door
from passthrough.requests.problems import Problem, problem_for
from passthrough.settings import Settings
from passthrough.values import InvalidInputs

from .support import TASKS, build_app

router = APIRouter()
left = threading.Event()
yielded: list[str] = []


@router.get("/me")
async def me() -> str:
    return (await remote.User.get.aio()).subject() or ""


@router.get("/projects")
async def projects() -> list[str]:
    return [project.pb2.id async for project in remote.Project.listall.aio()]


@router.get("/io/{name}")
async def io(name: str) -> Any:
    return await (await remote.Run.get.aio(name)).inputs.aio()


@router.post("/runs")
async def start() -> str:
    task = remote.Task.get(f"{TASKS}.greet", auto_version="latest")
    return (await flyte.run.aio(task, name="Ada")).name


@router.post("/upload")
async def upload() -> str:
    return (await remote.upload_file.aio(Path(__file__)))[1]


@router.get("/both")
async def both() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(me())
        group.create_task(projects())


@router.get("/bug")
async def bug() -> None:
    raise KeyError("what the bug says")


@router.get("/cancelled")
async def cancelled() -> None:
    task = asyncio.create_task(asyncio.Event().wait())
    task.cancel()
    await task


@router.get("/half")
async def half() -> AsyncIterator[str]:
    yield "the first line"
    raise KeyError("what the bug says")


@router.get("/events", response_class=EventSourceResponse)
async def events(told: int = 1) -> AsyncGenerator[ServerSentEvent]:
    for number in range(told):
        yield ServerSentEvent(data=number)
    await both()


@router.get("/quotes/{header}")
async def quote(request: Request, header: str, bug: bool = False) -> None:
    value = request.headers[header].rpartition("=")[2].rpartition(" ")[2]
    raise KeyError(value) if bug else HTTPException(404, f"there is no {value}")


@router.get("/refusals/{status}")
async def refusal(status: int) -> None:
    raise HTTPException(status, {"reason": ["no", "idea"]}, {"Retry-After": "5"})


@router.post("/echo")
async def echo(body: dict[str, int]) -> dict[str, int]:
    return body


@router.get("/slow")
async def slow() -> None:
    try:
        await asyncio.sleep(3600)
    finally:
        left.set()


# Flyte's messages


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (Code.UNAUTHENTICATED, 401),
        (Code.PERMISSION_DENIED, 403),
        (Code.NOT_FOUND, 404),
        (Code.ALREADY_EXISTS, 409),
        (Code.FAILED_PRECONDITION, 409),
        (Code.INVALID_ARGUMENT, 400),
        (Code.RESOURCE_EXHAUSTED, 429),
        (Code.UNIMPLEMENTED, 501),
        (Code.DATA_LOSS, 502),
        (Code.UNAVAILABLE, 503),
        (Code.DEADLINE_EXCEEDED, 504),
    ],
)
def test_flytes_errors_have_a_status_and_are_logged_unless_the_caller_is_at_fault(
    alice: httpx.Client,
    local_flyte: LocalFlyte,
    caplog: pytest.LogCaptureFixture,
    code: Code,
    status: int,
) -> None:
    local_flyte.fail_next("ListProjects", code, times=20)  # some are tried again
    response = alice.get("/projects")
    local_flyte.fail_next("ListProjects", code, times=0)
    assert response.status_code == response.json()["status"] == status
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.headers.get("WWW-Authenticate") == ("Bearer" if status == 401 else None)
    assert PEOPLE["alice"].token not in response.text
    lines = [r.getMessage() for r in caplog.records if r.name == "passthrough.requests.problems"]
    call = "flyteidl2.project.ProjectService/ListProjects"
    expected = f"GET /projects: status {status}, {code.name} from {call}"
    # A 400 may be the fault of the caller or of the app, so it is logged as well.
    wanted = 1 if status == 400 or status >= 500 else 0
    assert [line.startswith(expected) for line in lines] == [True] * wanted
    assert "\n" not in "".join(lines)


def test_a_long_message_of_flytes_is_shortened(
    alice: httpx.Client, local_flyte: LocalFlyte
) -> None:
    local_flyte.fail_next("ListProjects", Code.NOT_FOUND, message="no " * 10_000)
    assert alice.get("/projects").json()["detail"] == ("no " * 10_000)[:1000]


@pytest.mark.parametrize(
    ("method", "said", "status"),
    [
        # flytestdlib's text
        ("GetActionData", "limit exceeded. 3.100000mb > 2mb. You can increase the limit", 413),
        ("GetActionData", "context deadline exceeded", 502),
        ("GetRunDetails", "limit exceeded. 3.100000mb > 2mb. You can increase the limit", 502),
        ("GetRunDetails", None, 502),
        ("GetRunDetails", 7, 502),
    ],
)
def test_only_data_that_flyte_does_not_return_for_its_size_is_too_large(
    *,
    alice: httpx.Client,
    local_flyte: LocalFlyte,
    greeting: str,
    method: str,
    said: Any,
    status: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    local_flyte.fail_next(method, Code.INTERNAL, message=said)
    assert alice.get(f"/io/{greeting}").status_code == status
    assert ("status 502, INTERNAL from flyteidl2." in caplog.text) is (status == 502)


@pytest.mark.parametrize(
    ("method", "path", "rpc"),
    [("GET", "/me", "UserInfo"), ("POST", "/runs", "CreateRun")],
)
def test_a_flyte_that_does_not_answer_gives_a_504(
    short_timeout: httpx.Client, local_flyte: LocalFlyte, method: str, path: str, rpc: str
) -> None:
    with local_flyte.hang(rpc):
        assert short_timeout.request(method, path).status_code == 504


class Dropping(socketserver.StreamRequestHandler):
    """A storage server that reads an upload, and closes the connection."""

    def handle(self) -> None:
        self.rfile.readline()
        headers = http.client.parse_headers(self.rfile)
        self.rfile.read(int(headers["content-length"]))


def test_an_upload_that_the_storage_server_drops_is_a_fault_of_flyte(
    alice: httpx.Client,
    local_flyte: LocalFlyte,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with socketserver.TCPServer(("127.0.0.1", 0), Dropping) as server:
        address = f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setattr(local_flyte._services.storage, "address", address)
        threading.Thread(target=server.serve_forever, args=[0.05]).start()
        status = alice.post("/upload").status_code
        server.shutdown()
    assert status == 502
    assert "status 502, RemoteProtocolError: 'Server disconnected" in caplog.text


@pytest.mark.parametrize("authorization", ["", "Bearer nonsense"])
def test_a_401_contains_the_sign_in_url(local_flyte: LocalFlyte, authorization: str) -> None:
    page = "https://flyte.example/login"
    with serving(build_app(router, sign_in_url=page)) as url, client_of(url, None) as client:
        refused = client.get("/me", headers={"Authorization": authorization})
    assert (refused.status_code, refused.json()["sign_in"]) == (401, page)


# The app's own errors


@pytest.mark.parametrize("status", [400, 404, 418, 499, 503])
def test_an_owners_own_status_and_detail_become_a_problem(
    alice: httpx.Client, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    response = alice.get(f"/refusals/{status}")
    assert response.status_code == response.json()["status"] == status
    assert response.headers["Retry-After"] == "5"
    if status < 500:
        assert response.json()["detail"] == '{"reason": ["no", "idea"]}'
        assert caplog.text == ""


def test_invalid_values_are_reported_by_location_only(alice: httpx.Client) -> None:
    response = alice.post("/echo", json={"a": "s3cret", "b": 1})
    assert response.status_code == 422
    (error,) = response.json()["errors"]
    assert error["location"] == ["body", "a"]
    assert "s3cret" not in response.text


CANNOT = "the task cannot be run with these inputs"
TAKEN = "is no input of the task, or the name of an argument of the SDK"
NO_TASK = "no such task t in project None, domain None"


@pytest.mark.parametrize(
    ("error", "status", "detail", "errors"),
    [
        (flyte.errors.RuntimeUserError("RunAlreadyExistsError", "taken"), 409, "taken", None),
        (
            flyte.errors.RuntimeUserError("RemoteTaskNotFoundError", NO_TASK),
            404,
            NO_TASK[:14],
            None,
        ),
        (flyte.errors.RuntimeUserError("SomethingNew", "odd"), 502, "odd", None),
        (flyte.errors.InitializationError("X", "user", "no client"), 503, None, None),
        (DeadlineExceededError("Get"), 504, "Flyte did not answer in time", None),
        (httpx.ReadError("dropped"), 502, "dropped", None),
        (TimeoutError(), 504, "this took too long; a run that was started goes on", None),
        (ConnectError(Code.NOT_FOUND, "no such run"), 404, "no such run", None),
        (ConnectError(Code.NOT_FOUND, "Not Found"), 404, None, None),
        (TooLargeError("larger"), 413, "larger", None),
        (InvalidInputs([(("a", 0), "wrong")]), 422, CANNOT, [(["inputs", "a", 0], "wrong")]),
        (
            TypeError("_Runner.run() got multiple values for argument 'task'"),
            422,
            CANNOT,
            [(["inputs", "task"], TAKEN)],
        ),
        (TypeError("f() got multiple values for argument 'task'"), 500, None, None),
        (
            RequestValidationError([{"loc": ("query", n), "msg": "no"} for n in range(200)]),
            422,
            "the request contains invalid values",
            [(["query", n], "no") for n in range(100)],
        ),
        (HTTPException(200, "odd"), 200, "odd", None),
        (HTTPException(599, [{"b": 1}]), 599, '[{"b": 1}]', None),
        (HTTPException(600, "odd"), 500, "odd", None),
        (HTTPException(199, "odd"), 500, "odd", None),
        (RuntimeError("a bug"), 500, None, None),
    ],
)
def test_exceptions_map_to_problems(
    error: Exception, status: int, detail: str | None, errors: list[tuple[list[Any], str]] | None
) -> None:
    wrapped = flyte.errors.RuntimeSystemError("RunCreationError", "no")
    wrapped.__cause__ = error
    calls = (ConnectError, DeadlineExceededError)
    for each in (error, wrapped) if isinstance(error, calls) else (error,):
        problem = Problem.of_exception(each)
        assert (problem.status, problem.detail) == (status, detail)
        assert problem.title == http.client.responses.get(status, "Error")
        told = [(invalid.location, invalid.detail) for invalid in problem.errors or ()]
        assert told == (errors or [])


# Groups of failures


NO, DOWN, FAULT = (
    ConnectError(code, code.name)
    for code in (Code.UNAUTHENTICATED, Code.UNAVAILABLE, Code.DATA_LOSS)
)
BUG = KeyError("what the bug says")


@pytest.mark.parametrize(
    ("errors", "status", "logged"),
    [
        ([NO, NO], 401, []),
        ([NO, DOWN], 503, ["503, UNAVAILABLE"]),
        ([DOWN, FAULT], 503, ["503, UNAVAILABLE", "502, DATA_LOSS"]),
        ([NO, BUG], 500, ["500, KeyError"]),
        ([BUG, DOWN], 500, ["500, KeyError", "503, UNAVAILABLE"]),
        ([ExceptionGroup("inner", [NO]), NO], 401, []),
    ],
)
def test_a_group_of_failures_gives_the_worst_status_and_logs_every_fault(
    errors: list[Exception], status: int, logged: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    problem = problem_for(request_with_credentials(), ExceptionGroup("tasks", errors))
    assert problem.status == status
    lines = [record.getMessage() for record in caplog.records]
    assert [line.partition("status ")[2].splitlines()[0].split(":")[0] for line in lines] == logged


def test_a_group_of_refused_calls_is_a_refusal(url: str, caplog: pytest.LogCaptureFixture) -> None:
    with client_of(url, "expired") as expired:
        response = expired.get("/both")
    assert (response.status_code, response.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert caplog.text == ""


# Event streams


@pytest.mark.parametrize(
    ("code", "status"),
    [(Code.UNAUTHENTICATED, 401), (Code.NOT_FOUND, 404), (Code.DATA_LOSS, 502)],
)
def test_an_event_stream_that_fails_before_its_first_event_fails_as_a_request_does(
    alice: httpx.Client,
    local_flyte: LocalFlyte,
    caplog: pytest.LogCaptureFixture,
    code: Code,
    status: int,
) -> None:
    local_flyte.fail_next("UserInfo", code, times=20)
    response = alice.get("/events", params={"told": 0})
    local_flyte.fail_next("UserInfo", code, times=0)
    assert (response.status_code, response.json()["status"]) == (status, status)
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.headers.get("WWW-Authenticate") == ("Bearer" if status == 401 else None)
    assert caplog.text.count("status ") == (status >= 500)


def test_an_event_stream_that_fails_later_ends_with_a_problem_which_is_logged_once(
    alice: httpx.Client, local_flyte: LocalFlyte, caplog: pytest.LogCaptureFixture
) -> None:
    local_flyte.fail_next("UserInfo", Code.DATA_LOSS, times=20)
    response = alice.get("/events", params={"told": 2})
    local_flyte.fail_next("UserInfo", Code.DATA_LOSS, times=0)
    assert response.status_code == 200
    *events, last, end = response.text.split("\n\n")
    assert events == ["data: 0", "data: 1"]
    assert last.startswith('event: problem\ndata: {"type": "about:blank"')
    assert '"status": 502' in last
    assert end == ""
    assert caplog.text.count("status 502, DATA_LOSS") == 1


def test_an_event_stream_starts_after_a_second_without_an_event(
    alice: httpx.Client, local_flyte: LocalFlyte
) -> None:
    with ExitStack() as hanging:
        hanging.enter_context(local_flyte.hang("UserInfo"))
        with alice.stream("GET", "/events", params={"told": 0}) as response:
            assert response.status_code == 200  # Flyte still hangs
            local_flyte.fail_next("UserInfo", Code.NOT_FOUND)
            hanging.close()
            assert response.read().startswith(b"event: problem\n")


# Bugs


def test_a_bug_gives_a_500_and_one_traceback_in_the_apps_log(
    alice: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    response = alice.get("/bug")
    assert (response.status_code, response.json()["title"]) == (500, "Internal Server Error")
    # A response that has started can't be changed, but the client notices that it is incomplete.
    with pytest.raises(httpx.RemoteProtocolError):
        alice.get("/half")
    assert "what the bug says" not in response.text
    assert caplog.text.count("GET /bug: status 500, KeyError") == 1
    assert caplog.text.count("KeyError: 'what the bug says'") == 2  # one traceback for each
    assert "Exception in ASGI application" not in caplog.text


def test_a_cancellation_that_nobody_asked_for_is_a_bug_like_any_other(
    alice: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    response = alice.get("/cancelled")
    assert (response.status_code, response.json()["title"]) == (500, "Internal Server Error")
    assert response.headers["cache-control"] == "no-store"
    assert caplog.text.count("GET /cancelled: status 500, CancelledError") == 1
    assert "Exception in ASGI application" not in caplog.text


# Clients that are slow, or leave


def test_a_body_that_does_not_arrive_is_a_408(
    short_timeout: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    async def ask() -> bytes:
        url = short_timeout.base_url
        reader, writer = await asyncio.open_connection(url.host, url.port)
        with closing(writer):
            head = "POST /echo HTTP/1.1\r\nHost: app\r\nContent-Length: 9\r\n"
            head += f"Content-Type: application/json\r\nAuthorization: {bearer('alice')}"
            writer.write(f"{head}\r\n\r\n[".encode())
            return await reader.readuntil(b"}")

    answer = asyncio.run(ask())
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"application/problem+json" in answer
    assert caplog.text == ""  # a client's fault


def test_a_client_that_leaves_an_app_with_middleware_of_its_owners_is_no_error(
    local_flyte: LocalFlyte, caplog: pytest.LogCaptureFixture
) -> None:
    app = build_app(router)

    @app.middleware("http")
    async def outermost(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        return await call_next(request)

    left.clear()
    with serving(app) as url, client_of(url, "alice") as client:  # ends when no request is left

        def leave() -> bool:
            with pytest.raises(httpx.ReadTimeout):
                client.get("/slow", timeout=2)
            return left.wait(2)

        wait_until(leave)  # a busy machine may not begin in time
    assert "No response returned" not in caplog.text
    assert "Traceback" not in caplog.text


@router.get("/flood", response_class=EventSourceResponse)
async def flood() -> AsyncGenerator[ServerSentEvent]:
    while True:
        yielded.append("")
        yield ServerSentEvent(raw_data="x" * 8 * 1024 * 1024)


def test_a_client_that_leaves_without_reading_is_no_error(
    local_flyte: LocalFlyte, caplog: pytest.LogCaptureFixture
) -> None:
    yielded.clear()
    with serving(build_app(router)) as url:  # ends when no request is left
        address = httpx.URL(url)
        with socket.create_connection((address.host, address.port or 0)) as client:
            head = f"GET /flood HTTP/1.1\r\nHost: app\r\nAuthorization: {bearer('alice')}"
            client.sendall(f"{head}\r\n\r\n".encode())
            wait_until(lambda: len(yielded) > 4)  # every queue on the way is full
    assert caplog.text == ""


async def leaving(scope_type: str, gone: Exception) -> None:
    """Make the app send something to a client that has left."""

    async def app(_: Scope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise AssertionError

    async def receive() -> Message:
        raise AssertionError

    async def send(_: Message) -> None:
        raise gone

    scope: dict[str, Any] = {"type": scope_type, "method": "GET", "path": "/", "headers": []}
    await Door(app, Settings(access_log="off"), set())(scope, receive, send)


@pytest.mark.parametrize(
    ("scope_type", "gone"),
    [
        ("http", BrokenPipeError("gone")),
        ("websocket", BrokenPipeError("gone")),
        ("websocket", RuntimeError("Unexpected ASGI message 'websocket.send'")),
    ],
)
def test_a_client_that_leaves_is_no_error(
    scope_type: str, gone: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    asyncio.run(leaving(scope_type, gone))
    assert caplog.records == []


# Credentials


TOKEN = "local-token-of-someone"


def request_with_credentials() -> HTTPConnection:
    """A request with a token, a sign-in cookie and a cookie that is not for Flyte."""
    headers = [
        (b"authorization", f"Bearer {TOKEN}".encode()),
        (b"cookie", b"theme=development; flyte_at=local-session-of-someone"),
        (b"user-agent", b"development/1"),
    ]
    path = f"/runs/{TOKEN}"
    return HTTPConnection({"type": "http", "method": "GET", "path": path, "headers": headers})


@pytest.mark.parametrize(
    ("code", "message", "told"),
    [
        (Code.NOT_FOUND, "no run r1 in development", "no run r1 in development"),
        (Code.NOT_FOUND, f"no run for {TOKEN}", None),
        (Code.NOT_FOUND, f"no run for {TOKEN[:15]}...", None),
        (Code.INVALID_ARGUMENT, "bad cookie 'local-session-of-someone'", None),
        (Code.UNAVAILABLE, "10.0.0.7: connection refused", None),
        (Code.INTERNAL, "panic in store.go", None),
    ],
)
def test_flytes_message_is_returned_unless_it_contains_a_secret(
    code: Code, message: str, told: str | None
) -> None:
    assert problem_for(request_with_credentials(), ConnectError(code, message)).detail == told


@pytest.mark.parametrize(
    "error",
    [
        ConnectError(Code.INTERNAL, f"cannot use {TOKEN}"),
        RuntimeError(f"a bug with {TOKEN}"),
        ExceptionGroup("tasks", [ConnectError(Code.INTERNAL, f"cannot use {TOKEN}")]),
        ExceptionGroup(TOKEN, [RuntimeError(f"a bug with {TOKEN}")]),
    ],
)
def test_the_log_line_contains_no_credential(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        assert problem_for(request_with_credentials(), error).status in {500, 502}
    assert len(caplog.records) == 1
    assert TOKEN not in caplog.text


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer a-credential-that-nobody-may-see"},
        {"Cookie": "flyte_at=a-credential-that-nobody-may-see"},
        {"Authorization": "Bearer a-credential-that-nobody-may-see\x01"},
    ],
)
def test_credentials_are_neither_returned_nor_logged(
    url: str, headers: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG), client_of(url, None) as client:
        response = client.get("/me?token=x", headers=headers)
    assert response.status_code in {400, 401}
    assert "nobody-may-see" not in response.text + caplog.text


@pytest.fixture(scope="module")
def keyed(local_flyte: LocalFlyte) -> Iterator[str]:
    """The URL of an app that takes credentials from four headers."""
    sources = {"token_header": "x-token", "credential_headers": ("x-key",)}
    with serving(build_app(router, cookie_names=("team",), **sources)) as url:
        yield url


@pytest.mark.parametrize("bug", [False, True])
@pytest.mark.parametrize("source", ["x-token", "x-key", "cookie", "authorization"])
def test_no_credential_is_quoted_wherever_it_comes_from(
    keyed: str, source: str, bug: bool, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "a-credential-of-somebody"
    scheme = {"cookie": "theme=dark; team=", "authorization": "Bearer "}.get(source, "")
    headers = {"x-token": "another-token", source: f"{scheme}{secret}"}
    with client_of(keyed, None) as client:
        answer = client.get(f"/quotes/{source}", params={"bug": bug}, headers=headers)
    assert (answer.status_code, answer.json().get("detail")) == (500 if bug else 404, None)
    assert ("test_problems.py" in caplog.text) is bug  # the place is logged
    assert secret not in answer.text + caplog.text


def test_the_value_of_a_cookie_for_somebody_else_is_no_secret(keyed: str) -> None:
    headers = {"x-token": "another-token", "cookie": "theme=a-dark-theme-of-mine"}
    with client_of(keyed, None) as client:
        answer = client.get("/quotes/cookie", headers=headers)
    assert answer.json()["detail"] == "there is no a-dark-theme-of-mine"
