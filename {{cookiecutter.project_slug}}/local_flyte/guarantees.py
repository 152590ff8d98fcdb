"""The security guarantees, tested over the wire for every endpoint of the app.

``tests/test_guarantees.py`` of a project imports these tests. The tests call each operation of the
OpenAPI document, with the example requests in ``EXAMPLES`` of ``tests/test_guarantees.py``.
"""

import logging
import random
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest
from flyte import remote

import app as app_package
from app.main import create_app
from app.settings import Settings

from . import PEOPLE, Code, LocalFlyte, ReceivedCall
from .executed_functions import unexecuted_functions
from .hints import WHERE, hint
from .module_state import ALLOWED, changed_containers
from .operations import EXAMPLES as OWN_EXAMPLES
from .operations import (
    PUBLIC_OPERATIONS,
    STREAMS,
    Endpoints,
    Operation,
    Target,
    check_examples,
    operations_of,
)
from .own_data import check_foreign_request, check_traces, has_owner
from .testing import (
    COVERED,
    REAL_ENDPOINT,
    acting_as,
    bearer,
    client_of,
    serving,
    wait_until,
)
from .visits import Exchange, Visits, visits

KEPT = (
    "The endpoint keeps data of an earlier caller: look for a global, a cache, `app.state`, or a"
    " query of your database without a condition on the caller."
)
SHARED = (
    "If the data is meant for all callers, add the parameter `_: CallerDep` to the endpoint, so"
    " that Flyte checks the credentials of each caller."
)
OVERWRITTEN = (
    "Concurrent callers are mixed up: look for a global, `app.state` or an attribute that a second"
    " request overwrites while the first one waits."
)
COALESCED = (
    "Of two concurrent callers, one causes fewer calls to Flyte. The callers share a call or its"
    " result: look for a task, a future, a lock or a cache that one request creates for others."
)
IN_BACKGROUND = (
    "Await all work before the response. For work after the response, add the parameter"
    " `background: BackgroundTasks` (from fastapi), and call `background.add_task(function)`. Your"
    " own asyncio tasks cannot call Flyte after the response, and your own threads never can."
)
NO_CALL = (
    "It has not called Flyte. Add the parameter `_: CallerDep`, which is imported from passthrough,"
    " so that Flyte checks the credentials."
)

ME = ("GET", "/me")
NONE_OWNED = pytest.param(
    None, marks=pytest.mark.skip(reason="no example in EXAMPLES contains an object of the user")
)
ALSO_UNTESTED = {
    "test_every_operation_is_executed",
    "test_requests_without_credentials_are_refused",
}
"""Tests that do not need an example request, so they also know endpoints without one."""


def _name_of(operation: Operation | None) -> str:
    return " ".join(operation or ())


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Check the examples of the project, and create a test for each operation."""
    examples = OWN_EXAMPLES | metafunc.module.EXAMPLES
    try:
        check_examples(examples)
    except ValueError as error:
        raise pytest.Collector.CollectError(str(error)) from None
    if "operation" in metafunc.fixturenames:
        operations = operations_of(examples)
        if metafunc.definition.name not in ALSO_UNTESTED:
            operations = [one for one in operations if "untested" not in examples.get(one, {})]
        if metafunc.definition.name == "test_second_user_cannot_use_objects_of_the_first":
            owned = [one for one in operations if has_owner(Endpoints(examples, {}), one)]
            metafunc.parametrize("operation", owned or [NONE_OWNED], ids=_name_of)
            return
        metafunc.parametrize("operation", operations, ids=_name_of)


@pytest.fixture(scope="module")
def endpoints(request: pytest.FixtureRequest) -> Endpoints:
    """Return the endpoints with the examples of the project, and with objects in Flyte."""
    asking = None if REAL_ENDPOINT else request.getfixturevalue("asking")
    request.getfixturevalue("app_tasks")  # the run starts meanwhile
    drawing = request.getfixturevalue("drawing")
    with acting_as("alice"):
        run = Target(drawing, "a0", str(remote.Run.get(drawing).action.task_name))
        targets = {"ended": run, "running": run}
        if asking:
            wait_until(lambda: [*remote.Condition.listall(run_name=asking)])
            (condition,) = remote.Condition.listall(run_name=asking)
            task = str(remote.Run.get(asking).action.task_name)
            local_flyte: LocalFlyte = request.getfixturevalue("local_flyte")
            copied = local_flyte.copy_run(asking, f"{asking}-waits", PEOPLE["alice"])
            condition.signal(True)  # the process ends, and only copies of the run wait
            targets["running"] = Target(copied, str(condition.action_name), task)
    return Endpoints(OWN_EXAMPLES | request.module.EXAMPLES, targets)


@pytest.fixture(scope="module")
def operations(endpoints: Endpoints) -> list[Operation]:
    """Return all operations that the tests execute."""
    every = operations_of(endpoints.examples)
    return [one for one in every if "untested" not in endpoints.example(one)]


@pytest.fixture(scope="module")
def new_users(
    local_flyte: LocalFlyte,
    endpoints: Endpoints,
    operations: list[Operation],
    pytestconfig: pytest.Config,
    process_environment: Callable[[], dict[str, str]],
) -> Iterator[Visits]:
    """Start a new process of the app, and return an object that calls the app as new users."""
    folder, environment = pytestconfig.rootpath, process_environment()
    with visits(folder, local_flyte, endpoints, environment) as new_users:
        yield new_users
    untested = {
        " ".join(one): example["untested"]
        for one, example in endpoints.examples.items()
        if "untested" in example
    }
    unexecuted = None
    if all(map(new_users.has_called, operations)):
        unexecuted = unexecuted_functions(
            Path(str(app_package.__file__)).parent, new_users.app.executed
        )
    pytestconfig.stash[COVERED] = {"untested": untested, "unexecuted": unexecuted}


@pytest.fixture
def executed(operation: Operation, new_users: Visits) -> Operation:
    """Return the operation. Skip the test if a request of a user with rights does not succeed.

    `test_every_operation_is_executed` fails for such an operation, so that there is one message.
    """
    if new_users.failure_of(operation):
        pytest.skip(f"{' '.join(operation)}: see test_every_operation_is_executed")
    return operation


def describe(problem: str, *exchanges: Exchange) -> str:
    """Return the failure message of a test, with the exchanges that violate the guarantee."""
    operation, way = exchanges[0].operation, exchanges[0].way
    title = f"{'The tool of ' if way == 'tool' else ''}{' '.join(operation)}: {problem}"
    shared = f"If all callers may get this data, say why in {WHERE}: "
    example = {operation: {"shared": "<reason>"}}
    return "\n\n".join([title, f"{shared}{example}", *map(str, exchanges)])


def require_success(new_users: Visits, *exchanges: Exchange) -> None:
    """Fail the test if a response is not the expected success, because it would prove nothing."""
    for exchange in exchanges:
        if problem := new_users.problem_of(exchange):
            pytest.fail(f"{problem}\n\n{exchange}", pytrace=False)


# Every endpoint is executed.


@pytest.mark.reads_what_flyte_received
def test_every_operation_is_executed(operation: Operation, new_users: Visits) -> None:
    if reason := new_users.endpoints.example(operation).get("untested"):
        pytest.skip(f"{' '.join(operation)} is untested: {reason}")
    if problem := new_users.failure_of(operation):
        pytest.fail(problem, pytrace=False)


# The app refuses requests without valid credentials.


def test_requests_without_credentials_are_refused(
    anonymous: httpx.Client, endpoints: Endpoints, operation: Operation
) -> None:
    response = endpoints.without_functions(operation).call(anonymous, operation)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


def test_invalid_credentials_are_refused(
    request: pytest.FixtureRequest,
    expired: httpx.Client,
    endpoints: Endpoints,
    operation: Operation,
) -> None:
    name, called = " ".join(operation), None
    if not REAL_ENDPOINT:
        request.getfixturevalue("executed")
        new_users: Visits = request.getfixturevalue("new_users")
        called = new_users.first(operation, "endpoint")
        endpoints = endpoints.prepared(operation, request.getfixturevalue("alice"), "alice")
    response = endpoints.call(expired, operation)
    if response.status_code < 400:
        reason = NO_CALL
        if called and called.calls:
            reason = describe(f"It calls Flyte for the first caller only. {KEPT} {SHARED}", called)
        pytest.fail(f"{name} accepts any token. {reason}", pytrace=False)
    assert response.status_code == 401
    assert response.headers["Content-Type"] == "application/problem+json"
    assert bearer("expired").removeprefix("Bearer ") not in response.text


# The app returns no data that Flyte sent for another caller.


@pytest.mark.reads_what_flyte_received
def test_second_caller_gets_nothing_kept_from_the_first(
    new_users: Visits, executed: Operation
) -> None:
    for way in new_users.private_ways(executed):
        first, second = new_users.one_after_another(executed, way)
        if leak := second.leak_of(first):
            pytest.fail(describe(f"{leak}. {KEPT}", first, second), pytrace=False)
        require_success(new_users, first, second)
        if not new_users.first(executed, way).calls:
            pytest.fail(f"{' '.join(executed)}: {NO_CALL}", pytrace=False)
        calls = second.call_counts
        # The tests read only the first event of a stream, so the app may make further calls later.
        if not calls if second.is_stream else first.call_counts - calls:
            problem = f"the second caller causes fewer calls to Flyte than the first. {KEPT}"
            pytest.fail(describe(problem, first, second), pytrace=False)


@dataclass(frozen=True)
class Rounds:
    """Requests of users who call all endpoints, one after the other."""

    beginning: list[dict[Operation, Exchange]]
    """GET requests of two users who own nothing, in a new process."""
    pairs: list[tuple[Exchange, Exchange]]
    """Exchanges of two users with the same operation, one after the other, in another process."""
    end: dict[Operation, Exchange]
    """GET requests of a user who owns nothing, in the same process as ``pairs``, and after them."""


@pytest.fixture(scope="module")
def rounds(
    local_flyte: LocalFlyte,
    endpoints: Endpoints,
    operations: list[Operation],
    pytestconfig: pytest.Config,
    process_environment: Callable[[], dict[str, str]],
) -> Rounds:
    private = [one for one in operations if endpoints.is_private(one)]

    def new_visits() -> AbstractContextManager[Visits]:
        return visits(pytestconfig.rootpath, local_flyte, endpoints, process_environment())

    with new_visits() as clean:
        beginning = [clean.readings(private) for _ in range(2)]
    with new_visits() as used:
        return Rounds(beginning, used.all_operations(private), used.readings(private))


@pytest.mark.reads_what_flyte_received
def test_second_caller_gets_nothing_kept_by_another_endpoint(rounds: Rounds) -> None:
    problems = [
        describe(f"{leak}. Another endpoint may have kept it. {KEPT}", second)
        for first, second in rounds.pairs
        if (leak := second.leak_of(first))
    ]
    if problems:
        pytest.fail("\n\n".join(problems), pytrace=False)


@pytest.mark.reads_what_flyte_received
def test_other_users_change_nothing_for_a_new_user(rounds: Rounds) -> None:
    if problems := check_traces(rounds.beginning, rounds.end):
        texts = [describe(one.text, *one.exchanges) for one in problems]
        pytest.fail("\n\n".join(texts), pytrace=False)


@pytest.mark.reads_what_flyte_received
def test_second_user_cannot_use_objects_of_the_first(
    new_users: Visits, operations: list[Operation], executed: Operation
) -> None:
    for way in new_users.quick_ways(executed):
        if problem := check_foreign_request(new_users, executed, way, operations):
            pytest.fail(describe(problem.text, *problem.exchanges), pytrace=False)


@pytest.mark.authorization
def test_caller_without_rights_gets_nothing_fetched_for_another(
    new_users: Visits, executed: Operation
) -> None:
    for way in new_users.private_ways(executed):
        first, second = new_users.without_rights(executed, way)
        require_success(new_users, first)
        if first.needs_rights and second.status not in {403, 404}:
            problem = f"carol, who has no rights, gets {second.status} and not 403 or 404. {KEPT}"
            if second.calls:
                problem += (
                    " If a background task calls Flyte, first make a call that checks rights."
                )
            pytest.fail(describe(problem, first, second), pytrace=False)
        if leak := second.leak_of(first):
            pytest.fail(describe(f"{leak}. {KEPT}", first, second), pytrace=False)


@pytest.mark.steers_flyte
def test_concurrent_callers_get_nothing_of_each_other(
    new_users: Visits, executed: Operation
) -> None:
    for way in new_users.private_ways(executed):
        for _ in range(3):  # the calls of an endpoint may also depend on the order of the callers
            one, other = new_users.at_the_same_time(executed, way)
            if one.is_stream or one.status != other.status or one.call_counts == other.call_counts:
                break
        else:
            pytest.fail(describe(COALESCED, one, other), pytrace=False)
        if leak := one.leak_of(other) or other.leak_of(one):
            problem = f"{leak}. {OVERWRITTEN}"
            pytest.fail(describe(problem, one, other), pytrace=False)
        require_success(new_users, one, other)


def test_no_function_changes_a_module_level_container() -> None:
    folder = Path(str(app_package.__file__)).parent
    changed = "\n".join(changed_containers(folder))
    assert not changed, (
        f"Functions change these containers, which keep data for the next caller:\n{changed}\n"
        f"If all callers may get the data, add a comment where the container is created:"
        f" {ALLOWED}<reason>"
    )


# A request changes and starts only what it should.


@pytest.mark.reads_what_flyte_received
def test_get_changes_nothing_in_flyte(new_users: Visits, executed: Operation) -> None:
    if executed[0] not in {"GET", "HEAD", "OPTIONS"}:
        return
    for way in new_users.ways(executed):
        if changes := new_users.first(executed, way).changes:
            pytest.fail(
                f"{' '.join(executed)} changes something in Flyte ({', '.join(changes)}). Browsers,"
                " crawlers and links of other websites send GET requests, so use POST, PUT, PATCH"
                " or DELETE.",
                pytrace=False,
            )


@pytest.mark.reads_what_flyte_received
def test_no_work_goes_on_after_the_response(new_users: Visits, executed: Operation) -> None:
    for way in new_users.ways(executed):
        exchange = new_users.first(executed, way)
        problems = [*exchange.problems]
        problems += re.findall(".*called Flyte after the response.*", exchange.output)
        if problems:
            pytest.fail("\n".join([" ".join(executed), *problems, IN_BACKGROUND]), pytrace=False)


# The app calls Flyte only with the caller's own credentials.


@pytest.mark.reads_what_flyte_received
def test_flyte_receives_only_the_callers_credential(new_users: Visits, executed: Operation) -> None:
    exchange = new_users.with_cookie(executed)
    require_success(new_users, exchange)
    assert "no-store" in exchange.response.headers["Cache-Control"]
    assert exchange.calls, f"{' '.join(executed)}: {NO_CALL}"
    for call in exchange.calls:
        assert call.headers["cookie"] == exchange.user.cookie
        assert "authorization" not in call.headers


@pytest.mark.reads_what_flyte_received
@pytest.mark.parametrize("public", PUBLIC_OPERATIONS, ids=" ".join)
def test_public_paths_never_act_for_a_caller(
    new_users: Visits,
    endpoints: Endpoints,
    public: Operation,
    received: Callable[[], list[ReceivedCall]],
) -> None:
    cookie = PEOPLE["alice"].cookie
    with client_of(new_users.app.url, None) as client:
        for headers in ({}, {"Cookie": cookie}):
            response = endpoints.call(client, public, **headers)
            assert response.status_code != 401
            assert response.status_code < 400 or public[0] != "GET"
    # Work of earlier requests may still call Flyte, so check only for the cookie of this test.
    assert cookie not in [call.headers.get("cookie") for call in received()]


def test_concurrent_callers_are_never_mixed_up(
    alice: httpx.Client, bob: httpx.Client, endpoints: Endpoints, operations: list[Operation]
) -> None:
    """This test also runs on a real Flyte, because Flyte need not delay any calls."""
    reading = [operation for operation in operations if operation[0] == "GET"]
    if not reading:
        pytest.skip("the app has no such endpoint")
    requests = [(client, operation) for client in (alice, bob) for operation in reading]
    names = {alice: "alice", bob: "bob"}
    prepared = {
        (client, operation): endpoints.prepared(operation, client, names[client])
        for client, operation in requests
    }

    def call(client: httpx.Client, operation: Operation) -> httpx.Response:
        return prepared[client, operation].call(client, operation)

    alone = {request: call(*request) for request in requests}
    failed = [
        hint(operation, endpoints.example(operation), response.status_code, response, "endpoint")
        for (_, operation), response in alone.items()
        if not endpoints.is_expected(operation, response.status_code)
    ]
    if failed:
        pytest.fail("\n".join(failed), pytrace=False)
    random.Random(0).shuffle(requests := 5 * requests)
    with ThreadPoolExecutor(20) as threads:
        responses = list(threads.map(call, *zip(*requests, strict=True)))
    for request, response in zip(requests, responses, strict=True):
        assert response.status_code == alone[request].status_code, (request[1], response.text)
        assert request[1] != ME or response.text == alone[request].text
    assert ME not in reading or alone[alice, ME].json() != alone[bob, ME].json()


# The app stops all work for a request when the client disconnects.


@pytest.mark.skipif(not STREAMS, reason="the app has no streams")
def test_stream_calls_end_when_client_disconnects(
    settings: Settings, request: pytest.FixtureRequest, endpoints: Endpoints, counting: str
) -> None:
    running = replace(endpoints.targets["ended"], run=counting)
    of_a_run = replace(endpoints, targets={"ended": running, "running": running})
    # At the end of the block, `serving` fails if a request has not ended.
    with (
        serving(create_app(settings)) as url,
        client_of(url, "alice") as alice,
        ExitStack() as all_,
    ):
        alice.headers["x-request-id"] = "viewer"
        opened = []  # keeps the iterators alive, because httpx disconnects if one is deleted
        for operation in STREAMS:
            arguments = of_a_run.arguments(operation, {})
            path = of_a_run.path(operation)
            stream = all_.enter_context(alice.stream(operation[0], path, **arguments))
            opened.append(stream.iter_bytes())
            assert next(opened[-1]), operation
    if not REAL_ENDPOINT:
        local_flyte: LocalFlyte = request.getfixturevalue("local_flyte")
        assert any(call.headers.get("x-request-id") == "viewer" for call in local_flyte.calls)
        wait_until(lambda: local_flyte.open_calls("viewer") == 0)


# The app never discloses a token.


@pytest.mark.steers_flyte
def test_tokens_quoted_by_flyte_are_redacted(
    url: str,
    local_flyte: LocalFlyte,
    new_users: Visits,
    executed: Operation,
    received: Callable[[], list[ReceivedCall]],
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Some loggers do not pass records to the root logger, so configure each of them.
    for name in ("", "flyte", "uvicorn", "app", "passthrough"):
        caplog.set_level(logging.DEBUG, name)
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
    with new_users.new_user("ida") as (user, run), client_of(url, None) as client:
        client.headers["Authorization"] = f"Bearer {user.token}"

        prepared = run.endpoints(executed).prepared(executed, client, user.name)

        def call() -> httpx.Response:
            run.copy(executed)
            return prepared.call(client, executed)

        first = call()
        assert new_users.endpoints.is_expected(executed, first.status_code), first.text
        methods = {one.method for one in received() if one.person == user}
        assert methods, f"{' '.join(executed)}: {NO_CALL}"
        responses = []
        for method in methods:
            local_flyte.fail_next(method, Code.UNKNOWN, times=20, message=f"no: {user.token}")
            responses.append(call())
            local_flyte.fail_next(method, Code.UNKNOWN, times=0)
    failed = [one for one in responses if one.status_code >= 400 or '"isError":true' in one.text]
    assert failed, f"{' '.join(executed)} succeeds although Flyte fails"
    texts = [*(one.text for one in [first, *responses]), caplog.text, *capfd.readouterr()]
    assert not any(user.token in text for text in texts)
