"""The template's promises, tested over the wire for every endpoint of the app, including yours.

The endpoints are those in the OpenAPI document. If one of yours needs more than the name of a run or
a task, add an example to ``EXAMPLES``. If a newer flyte breaks a promise, a test here fails.
"""

import asyncio
import logging
import os
import random
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from flyte import remote
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect as sync_connect

from app.main import create_app
from app.settings import Settings
from local_flyte import PEOPLE, Code, LocalFlyte, ReceivedCall

from .support import (
    OPERATIONS,
    PUBLIC,
    REAL_ENDPOINT,
    TASKS,
    TOOLS,
    WEBSOCKETS,
    authorization_of,
    calling_as,
    client_of,
    finished,
    offers,
    run_task,
    serving,
    wait_until,
)

Operation = tuple[str, str]
EXAMPLES: dict[Operation, dict[str, Any]] = {
    ("POST", "/mcp"): {
        "json": {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {"name": "".join(TOOLS[:1])},
        }
    },
    ("POST", "/tasks/{name}/runs"): {"json": {"inputs": {"name": "Ada"}}},
    ("POST", "/runs/{name}/conditions/{action}"): {"json": {"value": True}},
    ("GET", "/runs/{name}/report"): {"status": 404},
}
"""Example requests: ``json``, ``params``, ``files``, or a ``path`` to use instead of one with a run or a
task. ``status`` is an acceptable status besides success."""

READING = [operation for operation in OPERATIONS if operation[0] == "GET"]
STREAMS = [operation for operation, has_events in OPERATIONS.items() if has_events]
ABOUT_THE_PROJECT = [
    each for each in OPERATIONS if each[1].startswith(("/tasks", "/runs", "/conditions"))
]

each_operation = pytest.mark.parametrize("operation", OPERATIONS, ids=" ".join)


def path_of(path: str, run: dict[str, Any]) -> str:
    """Fill in the name of an existing task or run."""
    return re.sub(r"{\w+}", f"{TASKS}.greet" if path.startswith("/tasks") else run["name"], path)


def call(
    client: httpx.Client, operation: Operation, run: dict[str, Any], **headers: str
) -> httpx.Response:
    """Call an operation; for a stream, read only the first chunk."""
    method, path = operation
    example: dict[str, Any] = {"path": path_of(path, run)} | EXAMPLES.get(operation, {})
    path, _ = example.pop("path"), example.pop("status", None)
    if method != "GET":
        example.setdefault("json", {})
    with client.stream(method, path, headers=headers, **example) as answer:
        is_stream = answer.headers.get("Content-Type", "").startswith("text/event-stream")
        content = next(answer.iter_bytes(), b"") if is_stream else answer.read()
        return httpx.Response(answer.status_code, headers=answer.headers, content=content)


def hint(operation: Operation, response: httpx.Response | None = None) -> str:
    """Return what to do about an operation that failed."""
    example: dict[str, Any] = {"params" if operation[0] == "GET" else "json": {"text": "Ada"}}
    if response is not None and response.status_code != 422:
        example = {"status": response.status_code}
    shown = {operation: example}
    where = f"EXAMPLES in tests/test_promises.py, such as {shown}"
    text = "" if response is None else f": {response.text}"
    return f"{' '.join(operation)} failed: add an example request to {where}{text}"


def is_as_expected(operation: Operation, response: httpx.Response) -> bool:
    """Tell whether this is the expected response to somebody who may do everything."""
    return response.is_success or response.status_code == EXAMPLES.get(operation, {}).get("status")


# No access without valid credentials


@each_operation
def test_without_credentials_every_request_is_refused(
    anonymous: httpx.Client, operation: Operation, greeting: dict[str, Any]
) -> None:
    response = call(anonymous, operation, greeting)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


@each_operation
def test_invalid_credentials_are_refused_because_every_endpoint_calls_flyte(
    expired: httpx.Client, operation: Operation, greeting: dict[str, Any]
) -> None:
    response = call(expired, operation, greeting)
    assert not response.is_success, (
        f"{' '.join(operation)} accepts any token. If it calls Flyte, it must not succeed when Flyte"
        " refuses; if it does not, give it the parameter `_: CallerDep`"
    )
    assert response.status_code != 422, (
        f"{' '.join(operation)} refused its parameters before it called Flyte:"
        " give it the parameter `_: CallerDep`, or add an example request to EXAMPLES in"
        " tests/test_promises.py"
    )
    assert response.status_code == 401
    assert response.headers["Content-Type"] == "application/problem+json"
    assert authorization_of("expired").removeprefix("Bearer ") not in response.text


@pytest.mark.authorization
@pytest.mark.parametrize("operation", ABOUT_THE_PROJECT, ids=" ".join)
def test_without_rights_on_the_project_every_request_is_forbidden(
    carol: httpx.Client, operation: Operation, greeting: dict[str, Any]
) -> None:
    assert call(carol, operation, greeting).status_code == 403


@pytest.mark.skipif(not WEBSOCKETS, reason="the app has no WebSocket")
@pytest.mark.parametrize("who", ["anonymous", "expired"])
def test_without_valid_credentials_no_websocket_is_opened(
    app_url: str, request: pytest.FixtureRequest, greeting: dict[str, Any], who: str
) -> None:
    sent = request.getfixturevalue(who).headers
    headers = {name: sent[name] for name in ("Authorization",) if name in sent}
    for path in WEBSOCKETS:
        url = app_url.replace("http", "ws", 1) + path_of(path, greeting)
        with (
            pytest.raises(InvalidStatus) as refused,
            sync_connect(url, additional_headers=headers, proxy=None, open_timeout=60),
        ):
            pass
        assert refused.value.response.status_code == 401, path


# The caller's own credentials only


@pytest.fixture(scope="module")
def asked_by_bob(
    app_url: str, local_flyte: LocalFlyte, greeting: dict[str, Any]
) -> dict[Operation, list[ReceivedCall]]:
    """The calls to Flyte for each operation, when bob's browser calls it."""
    cookie = {"Cookie": f"theme=dark; {PEOPLE['bob'].cookie}; flyte_rt=refresh"}
    asked = {}
    with client_of(app_url, None) as bob:
        for operation in OPERATIONS:
            local_flyte.clear_calls()
            local_flyte.fail_next("CreateRun", Code.UNAVAILABLE)  # one call is enough
            response = call(bob, operation, greeting, **cookie)
            assert "no-store" in response.headers["Cache-Control"]
            asked[operation] = local_flyte.calls
            local_flyte.fail_next("CreateRun", Code.UNAVAILABLE, times=0)
    return asked


@pytest.mark.reads_what_flyte_received
@each_operation
def test_flyte_receives_the_callers_credential_unchanged_and_no_other(
    asked_by_bob: dict[Operation, list[ReceivedCall]], operation: Operation
) -> None:
    assert asked_by_bob[operation], hint(operation)
    for each in asked_by_bob[operation]:
        assert each.headers["cookie"] == PEOPLE["bob"].cookie
        assert "authorization" not in each.headers


@pytest.mark.reads_what_flyte_received
@pytest.mark.parametrize("path", sorted(PUBLIC))
def test_public_paths_need_no_credentials_and_never_act_for_a_caller(
    anonymous: httpx.Client, path: str, received: Callable[[], list[ReceivedCall]]
) -> None:
    for headers in ({}, {"Cookie": PEOPLE["alice"].cookie}):
        if offers(path):
            assert anonymous.get(path, headers=headers).status_code < 400
        else:  # a webhook: this request is not signed
            assert anonymous.post(path, headers=headers).status_code >= 400
    assert not any({"authorization", "cookie"} & each.headers.keys() for each in received())


@pytest.mark.skipif(not READING, reason="the app has no such endpoint")
def test_concurrent_callers_are_never_mixed_up(
    app_url: str, request: pytest.FixtureRequest, greeting: dict[str, Any]
) -> None:
    if REAL_ENDPOINT:
        people = {name: authorization_of(name) for name in ("alice", "bob")}
    else:
        local_flyte: LocalFlyte = request.getfixturevalue("local_flyte")
        crowd = [local_flyte.add_person(f"person-{number}") for number in range(10)]
        people = {person.name: f"Bearer {person.token}" for person in crowd}
    asking = [(name, operation) for name in people for operation in READING for _ in range(3)]
    random.Random(0).shuffle(asking)

    def ask(name: str, operation: Operation) -> str:
        headers = {"Authorization": people[name], "X-Request-ID": name}
        response = call(client, operation, greeting, **headers)
        assert is_as_expected(operation, response), hint(operation, response)
        return response.text

    with client_of(app_url, None) as client, ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(ask, *zip(*asking, strict=True)))
        alone = {name: ask(name, ("GET", "/me")) for name in people if ("GET", "/me") in READING}
    assert len({*alone.values()}) == len(alone)
    for (name, operation), answer in zip(asking, answers, strict=True):
        assert operation != ("GET", "/me") or answer == alone[name]
    if not REAL_ENDPOINT:
        seen = [each for each in local_flyte.calls if each.headers.get("x-request-id") in people]
        assert len(seen) >= len(asking)
        for each in seen:
            assert each.headers["authorization"] == people[each.headers["x-request-id"]], each


# Work ends when the client leaves


async def come_and_leave(
    url: str, paths: list[str], is_there: Callable[[], bool] = lambda: False
) -> None:
    """Call all paths at once as alice; leave when each has sent something, or ``is_there`` is true."""
    alice = {"Authorization": authorization_of("alice")}
    seen = 0

    async def view(path: str) -> None:
        nonlocal seen
        if path.startswith("ws:"):
            async with connect(path, additional_headers=alice, proxy=None, open_timeout=60) as ws:
                assert await ws.recv()
                seen += 1
                await asyncio.Future()
        async with client.stream("GET", path) as response:
            async for _ in response.aiter_bytes():
                seen += 1
                await asyncio.Future()

    async with httpx.AsyncClient(
        base_url=url, headers=alice, timeout=200, trust_env=False
    ) as client:
        viewers = [asyncio.create_task(view(path)) for path in paths]
        while seen < len(paths) and not await asyncio.to_thread(is_there):
            assert not any(viewer.done() for viewer in viewers)
            await asyncio.sleep(0.02)
        for viewer in viewers:
            viewer.cancel()
        await asyncio.wait(viewers)


def open_calls(local_flyte: LocalFlyte) -> int:
    return sum(map(local_flyte.open_calls, {each.method for each in local_flyte.calls}))


@pytest.mark.skipif(not (STREAMS or WEBSOCKETS), reason="the app has no streams")
def test_nothing_remains_of_a_stream_when_its_viewer_leaves(
    settings: Settings, request: pytest.FixtureRequest, counting: dict[str, Any]
) -> None:
    with serving(create_app(settings)) as url:  # stops only when no request is left
        address = url.replace("http", "ws", 1)
        paths = [path_of(path, counting) for _, path in STREAMS]
        paths += [address + path_of(path, counting) for path in WEBSOCKETS]
        asyncio.run(come_and_leave(url, paths))
    if not REAL_ENDPOINT:
        local_flyte: LocalFlyte = request.getfixturevalue("local_flyte")
        wait_until(lambda: open_calls(local_flyte) == 0)


@pytest.mark.steers_flyte
@pytest.mark.skipif(READING == STREAMS, reason="the app has no such endpoint")
def test_nothing_remains_of_a_hanging_request_when_its_client_leaves(
    settings: Settings,
    local_flyte: LocalFlyte,
    greeting: dict[str, Any],
    asked_by_bob: dict[Operation, list[ReceivedCall]],
) -> None:
    operations = [each for each in READING if each not in STREAMS and each not in EXAMPLES]
    patient = settings.model_copy(update={"flyte_timeout": 600})
    with ExitStack() as hanging, serving(create_app(patient)) as url:
        for method in {each.method for o in operations for each in asked_by_bob[o][:1]}:
            hanging.enter_context(local_flyte.hang(method))
        local_flyte.clear_calls()
        paths = [path_of(path, greeting) for _, path in operations]
        asyncio.run(come_and_leave(url, paths, lambda: open_calls(local_flyte) >= len(operations)))
        wait_until(lambda: open_calls(local_flyte) == 0)


# No token is leaked


@pytest.fixture
def logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> pytest.LogCaptureFixture:
    """Everything that is logged, including loggers that do not propagate to the root."""
    caplog.set_level(logging.DEBUG)
    for name in ("flyte", "uvicorn", "app", "passthrough"):
        caplog.set_level(logging.DEBUG, name)
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
    return caplog


@pytest.mark.steers_flyte
@pytest.mark.skipif(not OPERATIONS, reason="the app has no endpoint that calls Flyte")
@pytest.mark.parametrize("code", [Code.UNKNOWN, Code.INVALID_ARGUMENT])
def test_no_response_and_no_log_has_a_token_that_flyte_quotes(
    alice: httpx.Client,
    local_flyte: LocalFlyte,
    greeting: dict[str, Any],
    asked_by_bob: dict[Operation, list[ReceivedCall]],
    code: Code,
    logged: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    token = PEOPLE["alice"].token
    failed = 0
    for operation, calls in asked_by_bob.items():
        for method in {each.method for each in calls}:
            local_flyte.fail_next(method, code, times=20, message=f"no good: {token}")
            response = call(alice, operation, greeting)
            local_flyte.fail_next(method, code, times=0)
            failed += not response.is_success or '"isError":true' in response.text
            assert token not in response.text, (operation, method)
    assert failed >= len(OPERATIONS)
    assert token not in logged.text
    assert token not in "".join(capfd.readouterr())


# Data stays data; the SDK caches nothing and blocks nobody


def test_a_runs_outputs_are_never_unpickled(alice: httpx.Client) -> None:
    trap = finished(alice, run_task(alice, "trap"))
    for operation in READING:
        response = call(alice, operation, trap)
        assert is_as_expected(operation, response), hint(operation, response)
    with calling_as(alice):  # in this process, which also runs the app
        assert remote.Run.get(trap["name"]).outputs().named_outputs["o0"]["kind"] == "pickle"
    assert "SPRUNG" not in os.environ


kept = remote.Task.get(f"{TASKS}.greet", auto_version="latest")


def with_endpoints_of_flytes_docs(app: FastAPI) -> FastAPI:
    """Add endpoints that, without the template, would share a cached task or block everybody."""

    @app.get("/kept")
    async def keep() -> str:
        return str((await kept.fetch.aio()).version)

    @app.get("/blocking")
    async def block() -> str:
        return str(remote.User.get().subject())

    @app.get("/thread")
    def thread() -> str:
        return str(remote.User.get().subject())

    return app


def test_the_sdk_caches_nothing_for_another_caller_and_blocks_nobody(
    settings: Settings, expired: httpx.Client, logged: pytest.LogCaptureFixture
) -> None:
    app = with_endpoints_of_flytes_docs(create_app(settings))
    with serving(app) as url, client_of(url, "alice") as alice, client_of(url, "expired") as other:
        assert alice.get("/kept").status_code == 200
        assert other.get("/kept").status_code == 401
        assert alice.get("/blocking").status_code == 500
        assert "make the endpoint a plain `def`" in logged.text
        assert alice.get("/thread").status_code == 200
        assert other.get("/thread").status_code == 401
