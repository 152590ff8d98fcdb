"""When a call to Flyte fails, the caller gets the right problem, in time, and no secrets."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import closing

import flyte.errors
import httpx
import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from fastapi.exceptions import RequestValidationError
from starlette.requests import HTTPConnection
from starlette.types import Message, Receive, Scope, Send

from app.main import create_app
from app.problems import Problem, ProblemMiddleware, problem_for
from app.settings import load_settings
from local_flyte import PEOPLE, LocalFlyte

from .support import TASKS, authorization_of, client_of, needs, serving

RUNS = f"/tasks/{TASKS}.greet/runs"
STATUSES = [
    (Code.UNAUTHENTICATED, 401),
    (Code.PERMISSION_DENIED, 403),
    (Code.NOT_FOUND, 404),
    (Code.ALREADY_EXISTS, 409),
    (Code.FAILED_PRECONDITION, 409),
    (Code.INVALID_ARGUMENT, 422),
    (Code.RESOURCE_EXHAUSTED, 429),
    (Code.UNIMPLEMENTED, 501),
    (Code.DATA_LOSS, 502),
    (Code.DEADLINE_EXCEEDED, 504),
]


async def leaving(scope_type: str, gone: Exception) -> None:
    """Have the app send something to a client that has gone."""

    async def app(_: Scope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise AssertionError

    async def receive() -> Message:
        raise AssertionError

    async def send(_: Message) -> None:
        raise gone

    scope = {"type": scope_type, "method": "GET", "path": "/", "headers": []}
    await ProblemMiddleware(app, timeout=60)(scope, receive, send)


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


@pytest.mark.steers_flyte
@needs("/runs")
def test_what_flyte_says_is_passed_on_in_part_if_it_is_long(
    alice: httpx.Client, local_flyte: LocalFlyte
) -> None:
    local_flyte.fail_next("ListRuns", Code.NOT_FOUND, message="no " * 10_000)
    assert alice.get("/runs").json()["detail"] == ("no " * 10_000)[:1000]


@pytest.mark.steers_flyte
@pytest.mark.parametrize(("code", "status"), STATUSES)
@pytest.mark.parametrize(
    ("method", "path", "rpc"),
    [
        pytest.param("GET", "/projects", "ListProjects", marks=needs("/projects")),
        pytest.param("GET", "/runs", "ListRuns", marks=needs("/runs")),
        pytest.param("POST", RUNS, "CreateRun", marks=needs(RUNS, "POST")),
    ],
)
def test_an_error_of_flytes_has_its_status(
    alice: httpx.Client,
    local_flyte: LocalFlyte,
    method: str,
    path: str,
    rpc: str,
    code: Code,
    status: int,
) -> None:
    # Again and again, because the SDK tries some again.
    local_flyte.fail_next(rpc, code, times=20)
    body = {"inputs": {"name": "Ada"}} if method == "POST" else None
    response = alice.request(method, path, json=body)
    local_flyte.fail_next(rpc, code, times=0)
    assert response.status_code == status
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.headers.get("WWW-Authenticate") == ("Bearer" if status == 401 else None)
    problem = response.json()
    assert problem["status"] == status
    assert "Traceback" not in response.text
    assert PEOPLE["alice"].token not in response.text


@pytest.mark.steers_flyte
@pytest.mark.parametrize(
    ("path", "rpc"),
    [
        pytest.param("/me", "UserInfo", marks=needs("/me")),
        pytest.param("/tasks", "ListTasks", marks=needs("/tasks")),
        pytest.param("/runs", "ListRuns", marks=needs("/runs")),
        pytest.param("/runs/none", "GetActionDetails", marks=needs("/runs/none")),
    ],
)
def test_a_flyte_that_does_not_answer_is_a_504(
    hurried: httpx.Client, local_flyte: LocalFlyte, path: str, rpc: str
) -> None:
    with local_flyte.hang(rpc):
        response = hurried.get(path)
    assert response.status_code == 504
    assert response.json()["title"] == "Gateway Timeout"


@needs(RUNS, "POST")
def test_a_body_that_does_not_arrive_is_a_408(
    hurried: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    async def ask() -> bytes:
        reader, writer = await asyncio.open_connection(hurried.base_url.host, hurried.base_url.port)
        with closing(writer):
            head = f"POST {RUNS} HTTP/1.1\r\nHost: app\r\nContent-Length: 9\r\n"
            head += f"Content-Type: application/json\r\nAuthorization: {authorization_of('alice')}"
            writer.write(f"{head}\r\n\r\n[".encode())
            return await reader.readuntil(b"}")

    answer = asyncio.run(ask())
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"application/problem+json" in answer
    assert caplog.text == ""  # a client's fault


@needs("/me")
def test_credentials_are_neither_told_nor_logged(
    app_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "a-credential-that-nobody-may-see"
    with caplog.at_level(logging.DEBUG):
        for headers in (
            {"Authorization": f"Bearer {secret}"},
            {"Cookie": f"flyte_at={secret}"},
            {"Authorization": f"Bearer {secret}\x01"},
        ):
            response = httpx.get(
                f"{app_url}/me?token=x", headers=headers, trust_env=False, timeout=60
            )
            assert secret not in response.text
    assert secret not in caplog.text


@pytest.mark.parametrize(
    ("error", "status", "detail"),
    [
        (flyte.errors.RuntimeUserError("RunAlreadyExistsError", "taken"), 409, "taken"),
        (flyte.errors.RuntimeUserError("SomethingNew", "odd"), 502, "odd"),
        (flyte.errors.InitializationError("X", "user", "no client"), 503, None),
        (TimeoutError(), 504, "Flyte did not answer in time"),
        (ConnectError(Code.NOT_FOUND, "no such run"), 404, "no such run"),
        (RuntimeError("a bug"), 500, None),
    ],
)
def test_exceptions_map_to_statuses(error: Exception, status: int, detail: str | None) -> None:
    problem = Problem.of_exception(error)
    assert (problem.status, problem.detail) == (status, detail)


TOKEN = "local-token-of-someone"


def request_with_credentials() -> HTTPConnection:
    """A request that carries a token, a sign-in cookie and a cookie of no interest to Flyte."""
    headers = [
        (b"authorization", f"Bearer {TOKEN}".encode()),
        (b"cookie", b"theme=development; flyte_at=local-session-of-someone"),
        (b"user-agent", b"development/1"),
    ]
    return HTTPConnection({"type": "http", "method": "GET", "path": "/runs", "headers": headers})


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
def test_flytes_words_are_passed_on_unless_they_hold_a_secret(
    code: Code, message: str, told: str | None
) -> None:
    assert problem_for(request_with_credentials(), ConnectError(code, message)).detail == told


@pytest.mark.steers_flyte
@needs("/runs")
def test_what_is_no_fault_of_the_callers_leaves_one_line_for_the_operator(
    alice: httpx.Client, local_flyte: LocalFlyte, caplog: pytest.LogCaptureFixture
) -> None:
    local_flyte.fail_next("ListRuns", Code.DATA_LOSS, times=20)
    assert alice.get("/runs").status_code == 502
    local_flyte.fail_next("ListRuns", Code.DATA_LOSS, times=0)
    (line,) = [record.getMessage() for record in caplog.records if record.name == "app.problems"]
    assert line.startswith(
        "GET '/runs': status 502, DATA_LOSS from flyteidl2.workflow.RunService/ListRuns: "
    )
    assert "\n" not in line


@pytest.mark.parametrize(
    "error",
    [
        ConnectError(Code.INTERNAL, f"cannot use {TOKEN}"),
        RuntimeError(f"a bug with {TOKEN}"),
        ExceptionGroup("tasks", [ConnectError(Code.INTERNAL, f"cannot use {TOKEN}")]),
    ],
)
def test_the_operators_line_holds_no_credential(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        assert problem_for(request_with_credentials(), error).status in {500, 502}
    assert len(caplog.records) == 1
    assert TOKEN not in caplog.text


def test_a_bug_is_answered_and_logged_with_its_traceback_and_not_by_the_server(
    environment: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(load_settings())

    @app.get("/bug")
    async def bug() -> None:
        raise KeyError("what the bug says")

    @app.get("/half")
    async def half() -> AsyncIterator[str]:
        yield "the first line"
        raise KeyError("what the bug says")

    with serving(app) as url, client_of(url, "alice") as client:
        response = client.get("/bug")
        assert (response.status_code, response.json()["title"]) == (500, "Internal Server Error")
        # What has begun can't be taken back, but the client notices that it has not ended.
        with pytest.raises(httpx.RemoteProtocolError):
            client.get("/half")
    assert "what the bug says" not in response.text
    assert caplog.text.count("GET '/bug': status 500, KeyError") == 1
    assert caplog.text.count("KeyError: 'what the bug says'") == 2  # one traceback for each
    assert "Exception in ASGI application" not in caplog.text


@needs("/me")
@pytest.mark.parametrize(
    "authorization", ["", pytest.param("Bearer nonsense", marks=pytest.mark.authorization)]
)
def test_a_401_says_where_to_sign_in(environment: dict[str, str], authorization: str) -> None:
    settings = load_settings().model_copy(update={"sign_in_url": "https://flyte.example/login"})
    with serving(create_app(settings)) as url, client_of(url, "alice") as client:
        client.headers["Authorization"] = authorization
        refused = client.get("/me")
    assert refused.status_code == 401
    assert refused.json()["sign_in"] == "https://flyte.example/login"


def test_invalid_values_are_located() -> None:
    error = RequestValidationError([{"loc": ("query", "limit"), "msg": "too much", "input": "s3"}])
    problem = Problem.of_exception(error)
    assert problem.status == 422
    assert problem.model_dump_json().count("too much") == 1
    assert "s3" not in problem.model_dump_json()
