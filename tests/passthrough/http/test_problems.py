"""Errors as problems (RFC 9457)."""

import asyncio
import http.client
import logging
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial
from typing import Any

import httpx
import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from fastapi import APIRouter, BackgroundTasks, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.sse import EventSourceResponse, ServerSentEvent
from flyte import remote
from flyte.errors import RuntimeSystemError, RuntimeUserError
from starlette.responses import Response, StreamingResponse

from local_flyte import LocalFlyte
from local_flyte.testing import client_of, serving, wait_until
from passthrough.calls.sdk import (
    DeadlineExceededError,
    FlyteLimitError,
    MessageTooLargeError,
    TooLargeError,
)
from passthrough.http.cancellation import StoppingError
from passthrough.http.problems import CodedError, Problem
from passthrough.values.inputs import InvalidInputs

from ..support import build_app, connected, head

router = APIRouter()
entered, left = threading.Event(), threading.Event()
SIGN_IN = "https://flyte.example/login"
SETTINGS = {"sign_in_url": SIGN_IN}


@router.get("/me")
async def me() -> None:
    await remote.User.get.aio()


class UpstreamError(Exception):
    """An HTTP client's error, with the headers of the server that it called."""

    headers = {"set-cookie": "session=theirs", "content-length": "3"}  # noqa: RUF012


KINDS: dict[str, Any] = {
    "refusal": HTTPException(404),
    "bug": KeyError,
    "bug with headers": UpstreamError,
    "cancellation": asyncio.CancelledError,
}


@router.get("/raise/events", response_class=EventSourceResponse)
async def events(told: int) -> AsyncGenerator[ServerSentEvent]:
    for number in range(told):
        yield ServerSentEvent(data=number)
    await me()


@router.get("/raise/{place}")
async def raise_at(place: str, kind: str, tasks: BackgroundTasks, told: int = 0) -> Any:
    async def fail() -> None:
        raise KINDS[kind]

    async def lines() -> AsyncGenerator[str]:
        for number in range(told):
            yield f"data: {number}\n\n"
        await fail()

    if place == "here":
        await fail()
    if place == "background":
        tasks.add_task(fail)
        return None
    return StreamingResponse(lines(), media_type=f"text/{place}")


@router.get("/slow")
async def slow() -> None:
    entered.set()
    try:
        await asyncio.sleep(3600)
    finally:
        left.set()


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (Code.UNAUTHENTICATED, 401),
        (Code.PERMISSION_DENIED, 403),
        (Code.INVALID_ARGUMENT, 400),
        (Code.DATA_LOSS, 502),
        (Code.UNAVAILABLE, 503),
        (Code.DEADLINE_EXCEEDED, 504),
    ],
)
def test_flyte_errors_map_to_http_statuses(
    *,
    alice: httpx.Client,
    anonymous: httpx.Client,
    local_flyte: LocalFlyte,
    caplog: pytest.LogCaptureFixture,
    code: Code,
    status: int,
) -> None:
    """Errors are logged, except those that the caller has caused."""
    said = "there is no such thing"
    local_flyte.fail_next("UserInfo", code, message=said)
    response = alice.get("/me")
    assert response.status_code == response.json()["status"] == status
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.headers.get("WWW-Authenticate") == ("Bearer" if status == 401 else None)
    assert response.headers.get("Retry-After") == ("5" if status in {503, 504} else None)
    assert response.json().get("refused_by") == ("flyte" if status == 403 else None)
    assert response.json().get("sign_in") == (SIGN_IN if status == 401 else None)
    assert anonymous.get("/me").json()["sign_in"] == SIGN_IN
    # About a fault of its own, Flyte may say too much.
    assert response.json().get("detail") == (said if status < 500 or status == 504 else None)
    lines = [r.getMessage() for r in caplog.records if r.name == "passthrough.http.problems"]
    call = "flyteidl2.auth.IdentityService/UserInfo"
    expected = f"GET /me: status {status}, {code.name} from {call}"
    is_logged = status == 400 or status >= 500  # a 400 may be the app's fault
    assert [line.startswith(expected) for line in lines] == [True] * is_logged
    assert "\n" not in "".join(lines)


def test_openapi_document_lists_all_problem_codes(alice: httpx.Client) -> None:
    """Clients may depend on the codes, so the test lists them; none may be renamed or removed."""
    schema = alice.get("/openapi.json").json()["components"]["schemas"]["Problem"]
    code = schema["properties"]["code"]
    assert code["anyOf"][0]["enum"] == [
        "body_too_large",
        "message_too_large",
        "response_too_large",
        "outputs_too_large",
        "invalid_request",
        "invalid_inputs",
        "too_many_requests",
        "stopping",
        "deadline",
        "flyte",
    ]
    assert all(f"`{name}`: " in code["description"] for name in code["anyOf"][0]["enum"])


REFUSED = HTTPException(403, "not you")
REFUSED.__cause__ = ConnectError(Code.NOT_FOUND, "the cause")
BODY_TOO_LARGE = "the body of the request is too large"
NO_TASK = "no such task t in project None, domain None"


@pytest.mark.parametrize(
    ("error", "status", "code", "detail"),
    [
        (HTTPException(413, "Content Too Large"), 413, "body_too_large", BODY_TOO_LARGE),
        (MessageTooLargeError("larger"), 413, "message_too_large", "larger"),
        (TooLargeError("larger"), 413, "response_too_large", "larger"),
        (FlyteLimitError("larger"), 413, "outputs_too_large", "larger"),
        (CodedError(429, "too_many_requests", "wait"), 429, "too_many_requests", "wait"),
        (StoppingError(), 503, "stopping", "this replica stops"),
        (TimeoutError(), 504, "deadline", "this took too long"),
        (RuntimeUserError("RemoteTaskNotFoundError", NO_TASK), 404, "flyte", NO_TASK[:14]),
        (RuntimeUserError("SomethingNew", "odd"), 502, "flyte", "odd"),
        (ConnectError(Code.NOT_FOUND, "Not Found"), 404, "flyte", None),
        (ConnectError(Code.RESOURCE_EXHAUSTED, "slow"), 429, "flyte", "slow"),
        (DeadlineExceededError("Get"), 504, "flyte", "Flyte did not respond in time"),
        (httpx.ReadError("dropped"), 502, None, None),
        (REFUSED, 403, None, "not you"),
        (HTTPException(418, [{"b": 1}]), 418, None, '[{"b": 1}]'),
        (KeyError(), 500, None, None),
    ],
)
def test_exceptions_map_to_problem_responses(
    error: Exception, status: int, code: str | None, detail: str | None
) -> None:
    wrapped = RuntimeSystemError("RunCreationError", "no")
    wrapped.__cause__ = error
    calls = (ConnectError, DeadlineExceededError)
    for raised in (error, wrapped) if isinstance(error, calls) else (error,):
        problem = Problem.of_exception(raised)
        assert (problem.status, problem.code, problem.detail) == (status, code, detail)
        assert problem.errors is None
        assert problem.title == http.client.responses.get(status, "Error")


def test_validation_problem_has_locations_without_values() -> None:
    many = [{"loc": ("query", n), "msg": "no", "input": "s3cret"} for n in range(200)]
    first = [(["query", n], "no") for n in range(100)]
    for error, code, expected in (
        (InvalidInputs([(("a", 0), "wrong")]), "invalid_inputs", [(["inputs", "a", 0], "wrong")]),
        (RequestValidationError(many), "invalid_request", first),
    ):
        problem = Problem.of_exception(error)
        assert (problem.status, problem.code) == (422, code)
        assert [(value.location, value.detail) for value in problem.errors or ()] == expected
        assert "s3cret" not in problem.model_dump_json()


@pytest.mark.parametrize(
    ("path", "status"), [("/raise/events?", 502), ("/raise/event-stream?kind=refusal&", 404)]
)
def test_failed_stream_ends_with_problem_response_or_event(
    alice: httpx.Client,
    local_flyte: LocalFlyte,
    caplog: pytest.LogCaptureFixture,
    path: str,
    status: int,
) -> None:
    local_flyte.fail_next("UserInfo", Code.DATA_LOSS, times=2)
    first, later = (alice.get(f"{path}told={told}") for told in (0, 2))
    local_flyte.fail_next("UserInfo", Code.DATA_LOSS, times=0)
    assert (first.status_code, first.json()["status"]) == (status, status)
    assert first.headers["Content-Type"] == "application/problem+json"
    assert later.status_code == 200
    *events, last, end = later.text.split("\n\n")
    assert (events, end) == (["data: 0", "data: 1"], "")
    assert last.startswith('event: problem\ndata: {"type": "about:blank"')
    assert f'"status": {status}' in last
    assert caplog.text.count("status ") == (2 if status >= 500 else 0)  # once each


INTERNAL = {"type": "about:blank", "title": "Internal Server Error", "status": 500}


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("here", "bug"),
        ("here", "bug with headers"),
        ("here", "cancellation"),
        ("plain", "bug"),
        ("background", "bug"),
    ],
)
def test_unexpected_exception_is_500_and_logged_once(
    alice: httpx.Client, place: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """If the response has started, the connection is closed."""
    get = partial(alice.get, f"/raise/{place}", params={"kind": kind})
    if place == "plain":
        with pytest.raises(httpx.RemoteProtocolError):
            get()
    elif place == "background":
        assert get().status_code == 200
    else:
        assert (response := get()).status_code == 500
        assert response.json() == INTERNAL
        assert response.headers["cache-control"] == "no-store"
        assert "set-cookie" not in response.headers  # of an error's own headers
    wait_until(lambda: "status 500" in caplog.text)
    assert caplog.text.count("status 500") == 1


def test_exception_in_added_middleware_becomes_problem_response(
    local_flyte: LocalFlyte, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The middleware sees the path of the request."""
    app = build_app(router)

    @app.middleware("http")
    async def guard(request: Request, call_next: Callable[..., Awaitable[Response]]) -> Response:
        if request.url.path == "/bug":
            raise KeyError("what the guard says")
        return Response(status_code=403) if request.url.path == "/me" else await call_next(request)

    with serving(app) as url, client_of(url, None) as client:
        assert client.get("/me").status_code == 403
        assert client.get("/slow").json()["status"] == 401
        assert client.get("/bug").json() == INTERNAL
        caplog.set_level(logging.INFO, "app.access")
        monkeypatch.setattr(logging.getLogger("app.access"), "propagate", True)
        caplog.clear()
        with connected(url, head("/slow")):
            wait_until(entered.is_set)
        wait_until(left.is_set)
        wait_until(lambda: "GET /slow 499 " in caplog.text)
    assert {record.levelname for record in caplog.records} == {"INFO"}
