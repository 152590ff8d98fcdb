"""The security guarantees, tested over the wire for every endpoint of the app.

``tests/test_guarantees.py`` of a project imports these tests. They call the operations of the
OpenAPI document, with the example requests in its ``EXAMPLES``.
"""

import logging
import random
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest
from flyte import remote
from starlette.routing import Match

from app.main import app, create_app
from app.settings import Settings

from . import PEOPLE, Code, LocalFlyte, ReceivedCall
from .testing import REAL_ENDPOINT, acting_as, bearer, client_of, serving, wait_until

Operation = tuple[str, str]
"""Method and path, as in the OpenAPI document."""
Example = Mapping[str, Any]
"""A request: ``json``, ``params``, a file as ``content``, for a form ``data`` and ``files``, or a
``path`` to use instead of one with a run or a task. ``status`` is acceptable besides success."""

PUBLIC = app.public
"""The paths that need no credentials, according to ``app/main.py``."""

_DOCUMENTED = {
    (method.upper(), path): operation
    for path, operations in app.openapi()["paths"].items()
    for method, operation in operations.items()
    if path not in PUBLIC
}
STREAMS = [
    operation
    for operation, described in _DOCUMENTED.items()
    if "text/event-stream" in described["responses"].get("200", {}).get("content", {})
]
_TOOLS = [
    described["operationId"]
    for (method, path), described in _DOCUMENTED.items()
    if method == "GET" and "{" not in path
]


def _offers(method: str, path: str) -> bool:
    scope = {"type": "http", "method": method, "path": path, "root_path": "", "headers": []}
    return any(route.matches(scope)[0] is Match.FULL for route in app.routes)


AGENTS = ("POST", "/mcp")
OPERATIONS = [*_DOCUMENTED, *([AGENTS] if _TOOLS and _offers(*AGENTS) else [])]
"""Every operation that needs credentials."""
TOOL_CALL = {"method": "tools/call", "params": {"name": "".join(_TOOLS[:1])}}
KNOWN_EXAMPLES = {AGENTS: {"json": {"jsonrpc": "2.0", "id": 1, **TOOL_CALL}}}
READING = [operation for operation in OPERATIONS if operation[0] == "GET"]
ABOUT_THE_PROJECT = [
    each for each in OPERATIONS if each[1].startswith(("/tasks", "/runs", "/conditions"))
]

each_operation = pytest.mark.parametrize("operation", OPERATIONS, ids=" ".join)


@dataclass(frozen=True)
class Endpoints:
    """The app's endpoints, and what to call them with."""

    examples: Mapping[Operation, Example]
    run: str
    """The name of a run, for paths that contain one."""
    task: str | None
    """The name of its task."""

    def path(self, operation: Operation) -> str:
        """Return a path of the operation that exists."""
        name = self.task if operation[1].startswith("/tasks") else self.run
        filled = re.sub(r"{\w+}", str(name), operation[1])
        return str(self.examples.get(operation, {}).get("path", filled))

    def call(self, client: httpx.Client, operation: Operation, **headers: str) -> httpx.Response:
        """Call an operation; of a stream, read only the first chunk."""
        given = dict(self.examples.get(operation, {}))
        example = {key: given[key] for key in given.keys() - {"path", "status"}}
        if operation[0] != "GET" and not example.keys() & {"content", "data", "files"}:
            example.setdefault("json", {})
        path = self.path(operation)
        with client.stream(operation[0], path, headers=headers, **example) as answer:
            is_stream = answer.headers.get("Content-Type", "").startswith("text/event-stream")
            content = next(answer.iter_bytes(), b"") if is_stream else answer.read()
            return httpx.Response(answer.status_code, headers=answer.headers, content=content)


def hint(operation: Operation, response: httpx.Response) -> str:
    """Return what to do about an operation that failed, or that has not called Flyte."""
    method, path = operation
    told = f"{method} {path} answered {response.status_code}: {response.text[:2000]}\n"
    where = "add an example request to EXAMPLES in tests/test_guarantees.py, such as"
    if response.status_code >= 500:
        bug = "This is a bug in the endpoint, or in what it calls. If it is meant,"
        return f"{told}{bug} {where} { ({operation: {'status': response.status_code}}) }"
    if response.is_success:
        return f"{told}It has not called Flyte: give it the parameter `_: CallerDep`."
    invalid = response.json()["errors"] if '"errors": [{"location"' in response.text else []
    places = [each["location"] for each in invalid]
    example: dict[str, Any] = {}
    for place, name, *_ in (each for each in places if len(each) > 1):
        example.setdefault("params" if place == "query" else "json", {})[name] = f"<{name}>"
    if "{" in path and (response.status_code == 404 or any("path" in each[:1] for each in places)):
        example = {"path": re.sub(r"{(\w+)}", r"<\1 that exists>", path)}
    elif not example:
        example = {"json": "<a body>"} if places else {"status": response.status_code}
    return f"{told}If the endpoint is right, {where} { ({operation: example}) }"


@pytest.fixture(scope="module")
def endpoints(request: pytest.FixtureRequest, greeting: str) -> Endpoints:
    """The app's endpoints, with a run that has succeeded."""
    with acting_as("alice"):
        task = remote.Run.get(greeting).action.task_name
    return Endpoints(KNOWN_EXAMPLES | request.module.EXAMPLES, greeting, task)


# No access without valid credentials


@each_operation
def test_without_credentials_every_request_is_refused(
    anonymous: httpx.Client, endpoints: Endpoints, operation: Operation
) -> None:
    response = endpoints.call(anonymous, operation)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


@each_operation
def test_invalid_credentials_are_refused_because_every_endpoint_calls_flyte(
    expired: httpx.Client, endpoints: Endpoints, operation: Operation
) -> None:
    response = endpoints.call(expired, operation)
    assert not response.is_success, (
        f"{' '.join(operation)} accepts any token. If it calls Flyte, it must not succeed when"
        " Flyte refuses; if it does not, give it the parameter `_: CallerDep`"
    )
    assert response.status_code != 422, (
        f"{' '.join(operation)} refused its parameters before it called Flyte:"
        " give it the parameter `_: CallerDep`, or add an example request to EXAMPLES in"
        " tests/test_guarantees.py"
    )
    assert response.status_code == 401
    assert response.headers["Content-Type"] == "application/problem+json"
    assert bearer("expired").removeprefix("Bearer ") not in response.text


@pytest.mark.authorization
@pytest.mark.parametrize("operation", ABOUT_THE_PROJECT, ids=" ".join)
def test_without_rights_on_the_project_every_request_is_forbidden(
    carol: httpx.Client, endpoints: Endpoints, operation: Operation
) -> None:
    assert endpoints.call(carol, operation).status_code == 403


# The caller's own credentials only


@pytest.mark.reads_what_flyte_received
@each_operation
def test_flyte_receives_the_callers_credential_unchanged_and_no_other(
    anonymous: httpx.Client,
    endpoints: Endpoints,
    operation: Operation,
    received: Callable[[], list[ReceivedCall]],
) -> None:
    cookie = f"theme=dark; {PEOPLE['bob'].cookie}; flyte_rt=refresh"
    response = endpoints.call(anonymous, operation, Cookie=cookie)
    assert "no-store" in response.headers["Cache-Control"]
    assert received(), hint(operation, response)
    for each in received():
        assert each.headers["cookie"] == PEOPLE["bob"].cookie
        assert "authorization" not in each.headers


@pytest.mark.reads_what_flyte_received
@pytest.mark.parametrize("path", sorted(path for path in PUBLIC if "*" not in path))
def test_public_paths_need_no_credentials_and_never_act_for_a_caller(
    anonymous: httpx.Client, path: str, received: Callable[[], list[ReceivedCall]]
) -> None:
    for headers in ({}, {"Cookie": PEOPLE["alice"].cookie}):
        if _offers("GET", path):
            assert anonymous.get(path, headers=headers).status_code < 400
        else:  # the owner's, for another method: this request has no body
            assert anonymous.post(path, headers=headers).status_code >= 400
    # Of others there may be calls: a background task of another request goes on.
    assert PEOPLE["alice"].cookie not in [each.headers.get("cookie") for each in received()]


@pytest.mark.skipif(not READING, reason="the app has no such endpoint")
def test_concurrent_callers_are_never_mixed_up(
    url: str, request: pytest.FixtureRequest, endpoints: Endpoints
) -> None:
    if REAL_ENDPOINT:
        people = {name: bearer(name) for name in ("alice", "bob")}
    else:
        local_flyte: LocalFlyte = request.getfixturevalue("local_flyte")
        crowd = [local_flyte.add_person(f"person-{number}") for number in range(10)]
        people = {person.name: f"Bearer {person.token}" for person in crowd}
    asking = [(name, operation) for name in people for operation in READING for _ in range(3)]
    random.Random(0).shuffle(asking)
    # Without the names: an identifier that quotes a token is replaced.
    whose = {f"request-{number}": header for number, header in enumerate(people.values())}
    ids = dict(zip(people, whose, strict=True))

    def ask(name: str, operation: Operation) -> str:
        headers = {"Authorization": people[name], "X-Request-ID": ids[name]}
        response = endpoints.call(client, operation, **headers)
        expected = endpoints.examples.get(operation, {}).get("status")
        if not response.is_success and response.status_code != expected:
            failed[operation] = hint(operation, response)
        return response.text

    failed = dict[Operation, str]()

    with client_of(url, None) as client, ThreadPoolExecutor(20) as threads:
        for operation in READING:  # what fails for one person fails once, not thirty times
            ask(next(iter(people)), operation)
        if failed:
            pytest.fail("\n".join(failed.values()), pytrace=False)
        answers = list(threads.map(ask, *zip(*asking, strict=True)))
        alone = {name: ask(name, ("GET", "/me")) for name in people if ("GET", "/me") in READING}
    if failed:
        pytest.fail("\n".join(failed.values()), pytrace=False)
    assert len({*alone.values()}) == len(alone)
    for (name, operation), answer in zip(asking, answers, strict=True):
        assert operation != ("GET", "/me") or answer == alone[name]
    if not REAL_ENDPOINT:
        seen = [each for each in local_flyte.calls if each.headers.get("x-request-id") in whose]
        assert len(seen) >= len(asking)
        for each in seen:
            assert each.headers["authorization"] == whose[each.headers["x-request-id"]], each


# Work ends when the client leaves


@pytest.mark.skipif(not STREAMS, reason="the app has no streams")
def test_nothing_remains_of_a_stream_when_its_viewer_leaves(
    settings: Settings, request: pytest.FixtureRequest, endpoints: Endpoints, counting: str
) -> None:
    of_a_run = replace(endpoints, run=counting)
    # The app stops only when no request is left.
    with (
        serving(create_app(settings)) as url,
        client_of(url, "alice") as alice,
        ExitStack() as all_,
    ):
        alice.headers["x-request-id"] = "viewer"
        opened = []  # httpx leaves when an iterator is gone
        for operation in STREAMS:
            stream = all_.enter_context(alice.stream("GET", of_a_run.path(operation)))
            opened.append(stream.iter_bytes())
            assert next(opened[-1]), operation
    if not REAL_ENDPOINT:
        local_flyte: LocalFlyte = request.getfixturevalue("local_flyte")
        assert any(each.headers.get("x-request-id") == "viewer" for each in local_flyte.calls)
        wait_until(lambda: local_flyte.open_calls("viewer") == 0)


# No token is leaked


@pytest.mark.steers_flyte
@each_operation
def test_no_response_and_no_log_has_a_token_that_flyte_quotes(
    alice: httpx.Client,
    local_flyte: LocalFlyte,
    endpoints: Endpoints,
    operation: Operation,
    received: Callable[[], list[ReceivedCall]],
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("", "flyte", "uvicorn", "app", "passthrough"):  # some do not propagate
        caplog.set_level(logging.DEBUG, name)
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
    token = PEOPLE["alice"].token
    answers = [endpoints.call(alice, operation)]
    assert received(), hint(operation, answers[0])
    for method in {each.method for each in received()}:
        local_flyte.fail_next(method, Code.UNKNOWN, times=20, message=f"no good: {token}")
        answers.append(endpoints.call(alice, operation))
        local_flyte.fail_next(method, Code.UNKNOWN, times=0)
    failed = [each for each in answers[1:] if not each.is_success or '"isError":true' in each.text]
    assert failed, f"{' '.join(operation)} succeeds although Flyte fails"
    told = [*(each.text for each in answers), caplog.text, *capfd.readouterr()]
    assert not any(token in each for each in told)
