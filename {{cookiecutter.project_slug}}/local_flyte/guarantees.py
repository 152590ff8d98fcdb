"""The security guarantees, tested over the wire for every endpoint of the app.

``tests/test_guarantees.py`` of a project imports these tests. The tests call each operation of the
OpenAPI document, with the example requests in ``EXAMPLES`` of ``tests/test_guarantees.py``.
"""

import logging
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from flyte import remote

import app as app_package
from app.main import create_app
from app.settings import Settings

from . import PEOPLE, Code, LocalFlyte, ReceivedCall
from .module_state import ALLOWED, changed_containers
from .operations import EXAMPLES as OWN_EXAMPLES
from .operations import OPERATIONS, PUBLIC, READING, STREAMS, Endpoints, Operation, has_route, hint
from .testing import REAL_ENDPOINT, acting_as, bearer, client_of, serving, wait_until
from .visits import Exchange, Visits, visits

KEPT = "The endpoint keeps data of an earlier caller: look for a global, a cache, `app.state`."
SHARED = (
    "If the data is meant for all callers, add the parameter `_: CallerDep` to the endpoint, so"
    " that Flyte checks the credentials of each caller."
)
OVERWRITTEN = (
    "Concurrent callers are mixed up: look for a global, `app.state` or an attribute that a second"
    " request overwrites while the first one waits."
)

ME = ("GET", "/me")
each_operation = pytest.mark.parametrize("operation", OPERATIONS, ids=" ".join)
Explain = Callable[[Operation, httpx.Response], str]


@pytest.fixture(scope="module")
def endpoints(request: pytest.FixtureRequest, greeting: str) -> Endpoints:
    with acting_as("alice"):
        task = remote.Run.get(greeting).action.task_name
    return Endpoints(OWN_EXAMPLES | request.module.EXAMPLES, greeting, task)


@pytest.fixture(scope="module")
def new_users(
    local_flyte: LocalFlyte, endpoints: Endpoints, pytestconfig: pytest.Config
) -> Iterator[Visits]:
    """Start a new process of the app, and return an object that calls the app as new users."""
    with visits(pytestconfig.rootpath, local_flyte, endpoints) as new_users:
        yield new_users


@pytest.fixture
def explain(request: pytest.FixtureRequest) -> Explain:
    """Return a function that explains why an operation has failed or has not called Flyte."""

    def explain(operation: Operation, response: httpx.Response) -> str:
        if response.is_success and not REAL_ENDPOINT:
            new_users: Visits = request.getfixturevalue("new_users")
            if (first := new_users.first(operation)).calls:
                return describe(f"It calls Flyte for the first caller only. {KEPT} {SHARED}", first)
        return hint(operation, response)

    return explain


def describe(problem: str, *exchanges: Exchange) -> str:
    """Return the failure message of a test, with the exchanges that violate the guarantee."""
    operation, way = exchanges[0].operation, exchanges[0].way
    title = f"{'The tool of ' if way == 'tool' else ''}{' '.join(operation)}: {problem}"
    shared = "If all callers may get this data, say why in EXAMPLES in tests/test_guarantees.py: "
    example = {operation: {"shared": "<reason>"}}
    return "\n\n".join([title, f"{shared}{example}", *map(str, exchanges)])


# The app refuses requests without valid credentials.


@each_operation
def test_requests_without_credentials_are_refused(
    anonymous: httpx.Client, endpoints: Endpoints, operation: Operation
) -> None:
    response = endpoints.call(anonymous, operation)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


@each_operation
def test_invalid_credentials_are_refused(
    expired: httpx.Client, endpoints: Endpoints, operation: Operation, explain: Explain
) -> None:
    response, name = endpoints.call(expired, operation), " ".join(operation)
    assert not response.is_success, f"{name} accepts any token. {explain(operation, response)}"
    assert response.status_code != 422, (
        f"{name} refused its parameters before it called Flyte. Add the parameter `_: CallerDep`,"
        " or add an example request to EXAMPLES in tests/test_guarantees.py"
    )
    assert response.status_code == 401
    assert response.headers["Content-Type"] == "application/problem+json"
    assert bearer("expired").removeprefix("Bearer ") not in response.text


# The app returns no data that Flyte sent for another caller.


@pytest.mark.reads_what_flyte_received
@each_operation
def test_second_caller_gets_nothing_kept_from_the_first(
    new_users: Visits, operation: Operation
) -> None:
    for way in new_users.ways(operation):
        first, second = new_users.one_after_another(operation, way)
        if not first.calls:
            pytest.fail(hint(operation, first.response), pytrace=False)
        if leak := second.leak_of(first):
            pytest.fail(describe(f"{leak}. {KEPT}", first, second), pytrace=False)
        calls = second.call_counts
        # The tests read only the first event of a stream, so the app may make further calls later.
        fewer = not calls if operation in STREAMS else first.call_counts - calls
        if fewer and first.status == second.status:
            problem = f"the second caller causes fewer calls to Flyte than the first. {KEPT}"
            pytest.fail(describe(problem, first, second), pytrace=False)


@pytest.mark.reads_what_flyte_received
def test_second_caller_gets_nothing_kept_by_another_endpoint(
    local_flyte: LocalFlyte, endpoints: Endpoints, pytestconfig: pytest.Config
) -> None:
    with visits(pytestconfig.rootpath, local_flyte, endpoints) as new_users:
        exchanges = new_users.all_operations(OPERATIONS)
    problems = [
        describe(f"{leak}. Another endpoint may have kept it. {KEPT}", second)
        for first, second in exchanges
        if (leak := second.leak_of(first))
    ]
    if problems:
        pytest.fail("\n\n".join(problems), pytrace=False)


@pytest.mark.authorization
@each_operation
def test_caller_without_rights_gets_nothing_fetched_for_another(
    new_users: Visits, operation: Operation
) -> None:
    for way in new_users.ways(operation):
        first, second = new_users.without_rights(operation, way)
        if first.needs_rights and second.status not in {403, 404}:
            problem = f"carol, who has no rights, gets {second.status} and not 403 or 404. {KEPT}"
            pytest.fail(describe(problem, first, second), pytrace=False)
        if leak := second.leak_of(first):
            pytest.fail(describe(f"{leak}. {KEPT}", first, second), pytrace=False)


@pytest.mark.steers_flyte
@each_operation
def test_concurrent_callers_get_nothing_of_each_other(
    new_users: Visits, operation: Operation
) -> None:
    for way in new_users.ways(operation):
        one, other = new_users.at_the_same_time(operation, way)
        if leak := one.leak_of(other) or other.leak_of(one):
            problem = f"{leak}. {OVERWRITTEN}"
            pytest.fail(describe(problem, one, other), pytrace=False)


def test_no_function_changes_a_module_level_container() -> None:
    folder = Path(str(app_package.__file__)).parent
    changed = "\n".join(changed_containers(folder))
    assert not changed, (
        f"Functions change these containers, which keep data for the next caller:\n{changed}\n"
        f"If all callers may get the data, add a comment where the container is created:"
        f" {ALLOWED}<reason>"
    )


# The app calls Flyte only with the caller's own credentials.


@pytest.mark.reads_what_flyte_received
@each_operation
def test_flyte_receives_only_the_callers_credential(
    anonymous: httpx.Client,
    endpoints: Endpoints,
    operation: Operation,
    received: Callable[[], list[ReceivedCall]],
    explain: Explain,
) -> None:
    cookie = f"theme=dark; {PEOPLE['bob'].cookie}; flyte_rt=refresh"
    response = endpoints.call(anonymous, operation, Cookie=cookie)
    assert "no-store" in response.headers["Cache-Control"]
    assert received(), explain(operation, response)
    for call in received():
        assert call.headers["cookie"] == PEOPLE["bob"].cookie
        assert "authorization" not in call.headers


@pytest.mark.reads_what_flyte_received
@pytest.mark.parametrize("path", sorted(path for path in PUBLIC if "*" not in path))
def test_public_paths_never_act_for_a_caller(
    anonymous: httpx.Client, path: str, received: Callable[[], list[ReceivedCall]]
) -> None:
    for headers in ({}, {"Cookie": PEOPLE["alice"].cookie}):
        if has_route("GET", path):
            assert anonymous.get(path, headers=headers).status_code < 400
        else:  # the path accepts only POST, and the app refuses an empty body
            assert anonymous.post(path, headers=headers).status_code >= 400
    # Work of earlier requests may still call Flyte, so check only for the cookie of this test.
    assert PEOPLE["alice"].cookie not in [call.headers.get("cookie") for call in received()]


@pytest.mark.skipif(not READING, reason="the app has no such endpoint")
def test_concurrent_callers_are_never_mixed_up(
    alice: httpx.Client, bob: httpx.Client, endpoints: Endpoints
) -> None:
    """This test also runs on a real Flyte, because Flyte need not delay any calls."""
    requests = [(client, operation) for client in (alice, bob) for operation in READING]
    alone = {request: endpoints.call(*request) for request in requests}
    failed = [
        hint(operation, response)
        for (client, operation), response in alone.items()
        if client is alice and not endpoints.is_expected(operation, response)
    ]
    if failed:
        pytest.fail("\n".join(failed), pytrace=False)
    random.Random(0).shuffle(requests := 5 * requests)
    with ThreadPoolExecutor(20) as threads:
        responses = list(threads.map(endpoints.call, *zip(*requests, strict=True)))
    for request, response in zip(requests, responses, strict=True):
        assert response.status_code == alone[request].status_code, (request[1], response.text)
        assert request[1] != ME or response.text == alone[request].text
    assert ME not in READING or alone[alice, ME].json() != alone[bob, ME].json()


# The app stops all work for a request when the client disconnects.


@pytest.mark.skipif(not STREAMS, reason="the app has no streams")
def test_stream_calls_end_when_client_disconnects(
    settings: Settings, request: pytest.FixtureRequest, endpoints: Endpoints, counting: str
) -> None:
    of_a_run = replace(endpoints, run=counting)
    # At the end of the block, `serving` fails if a request has not ended.
    with (
        serving(create_app(settings)) as url,
        client_of(url, "alice") as alice,
        ExitStack() as all_,
    ):
        alice.headers["x-request-id"] = "viewer"
        opened = []  # keeps the iterators alive, because httpx disconnects if one is deleted
        for operation in STREAMS:
            stream = all_.enter_context(alice.stream("GET", of_a_run.path(operation)))
            opened.append(stream.iter_bytes())
            assert next(opened[-1]), operation
    if not REAL_ENDPOINT:
        local_flyte: LocalFlyte = request.getfixturevalue("local_flyte")
        assert any(call.headers.get("x-request-id") == "viewer" for call in local_flyte.calls)
        wait_until(lambda: local_flyte.open_calls("viewer") == 0)


# The app never discloses a token.


@pytest.mark.steers_flyte
@each_operation
def test_tokens_quoted_by_flyte_are_redacted(
    alice: httpx.Client,
    local_flyte: LocalFlyte,
    endpoints: Endpoints,
    operation: Operation,
    received: Callable[[], list[ReceivedCall]],
    explain: Explain,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Some loggers do not pass records to the root logger, so configure each of them.
    for name in ("", "flyte", "uvicorn", "app", "passthrough"):
        caplog.set_level(logging.DEBUG, name)
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
    token = PEOPLE["alice"].token
    responses = [endpoints.call(alice, operation)]
    assert received(), explain(operation, responses[0])
    for method in {call.method for call in received()}:
        local_flyte.fail_next(method, Code.UNKNOWN, times=20, message=f"no good: {token}")
        responses.append(endpoints.call(alice, operation))
        local_flyte.fail_next(method, Code.UNKNOWN, times=0)
    failed = [one for one in responses[1:] if not one.is_success or '"isError":true' in one.text]
    assert failed, f"{' '.join(operation)} succeeds although Flyte fails"
    texts = [*(response.text for response in responses), caplog.text, *capfd.readouterr()]
    assert not any(token in text for text in texts)
