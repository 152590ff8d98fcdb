"""A pytest plugin that serves an app, provides HTTP clients of users, and starts runs.

To use the plugin, add ``pytest_plugins = ["local_flyte.testing"]`` to ``conftest.py``, and define a
fixture ``url`` with the URL of the app. With ``FLYTE_TEST_ENDPOINT`` (``dns:///host[:port]``), the
tests run against a real Flyte, as docs/operating.md describes.
PYTEST_DONT_REWRITE
"""

import asyncio
import os
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import flyte
import httpx
import pytest
import uvicorn
from flyte import remote
from starlette.types import ASGIApp

from passthrough import UVICORN, Settings, connect, load_settings

from . import PEOPLE, LocalFlyte, ReceivedCall

pytest.register_assert_rewrite("local_flyte.guarantees")

REAL_ENDPOINT = os.environ.get("FLYTE_TEST_ENDPOINT")
COVERED = pytest.StashKey[Any]()
"""What the guarantee tests have not covered, for the summary of the test run."""
NOT_ON_A_REAL_FLYTE = {
    "authorization": "depends on rights, and needs other users than alice and bob",
    "steers_flyte": "makes Flyte fail or hang, which only the local Flyte server supports",
    "reads_what_flyte_received": "reads the calls to Flyte, which only the local server records",
    "deploys": "deploys this project, which would stay on a real Flyte",
}
"""Maps a marker to the reason to skip tests with this marker on a real Flyte."""

_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # loading certificate authorities takes 20 ms


@contextmanager
def serving(app: ASGIApp, **options: Any) -> Iterator[str]:
    """Serve an app with uvicorn in a thread, on a free port, and yield the URL."""
    config = uvicorn.Config(app, port=0, **({"log_config": None} | UVICORN | options))
    server = uvicorn.Server(config)
    # A daemon thread does not keep Python running if a failed test has blocked the server.
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive())
        assert server.started, "the app did not start"
        scheme = "https" if config.is_ssl else "http"
        yield f"{scheme}://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive(), "the app does not stop, because it still serves a request"


def wait_until(condition: Callable[[], object], seconds: float = 300) -> None:
    """Wait until ``condition`` is true; fail after the timeout."""
    began = time.monotonic()
    while not condition():
        waited = time.monotonic() - began
        assert waited < seconds, f"the condition is not true after {seconds} seconds"
        time.sleep(min(0.02 + waited / 20, 0.1))  # poll less and less often, to save CPU time


def bearer(name: str) -> str:
    """Return the Authorization header of a user, with a token for the Flyte under test."""
    if REAL_ENDPOINT:
        return f"Bearer {os.environ.get(f'FLYTE_TEST_TOKEN_{name.upper()}', name)}"
    return f"Bearer {PEOPLE[name].token}"


def client_of(url: str, name: str | None) -> httpx.Client:
    """Return an HTTP client with the bearer token of a user, or without credentials."""
    headers = {"Authorization": bearer(name)} if name else {}
    return httpx.Client(base_url=url, headers=headers, timeout=200, trust_env=False, verify=_NO_TLS)


class Event(NamedTuple):
    """A server-sent event."""

    type: str
    data: str
    id: str


def events(response: httpx.Response) -> Iterator[Event]:
    """Yield the server-sent events of a response. Omit comments."""
    text = ""
    for part in response.iter_text():
        *blocks, text = (text + part).split("\n\n")
        for block in blocks:
            fields: dict[str, list[str]] = {}
            for line in block.split("\n"):
                name, _, value = line.partition(":")
                fields.setdefault(name, []).append(value.removeprefix(" "))
            if "data" in fields:
                type_, id_ = (fields.get(name, [""])[-1] for name in ("event", "id"))
                yield Event(type_ or "message", "\n".join(fields["data"]), id_)


# Runs, started with the SDK


@contextmanager
def acting_as(name: str) -> Iterator[None]:
    """Make the SDK call Flyte as a user inside the block."""
    asyncio.run(connect(load_settings(Settings)))
    with remote.auth_metadata(("authorization", bearer(name))):
        yield


def start(task: str, person: str = "alice", /, **inputs: Any) -> str:
    """Start a run of a task as a user, and return the name of the run."""
    with acting_as(person):
        latest = remote.Task.get(task, auto_version="latest")
        return str(flyte.with_runcontext("remote").run(latest, **inputs).name)


def ended(run: str) -> str:
    """Wait until a run has ended, and return the name of the run."""
    with acting_as("alice"):
        wait_until(lambda: remote.RunDetails.get(name=run).done())
    return run


@contextmanager
def long_run(task: str, **inputs: Any) -> Iterator[str]:
    """Start a run as alice, yield the name, and abort the run at the end of the block."""
    run = start(task, **inputs)
    try:
        yield run
    finally:
        with acting_as("alice"):
            remote.Run.get(run).abort()


# Fixtures


@pytest.fixture(scope="session")
def project_and_domain() -> tuple[str, str]:
    """Return the project and domain for the tests. A ``conftest.py`` may override this fixture."""
    return "flytesnacks", "development"


@pytest.fixture(scope="session")
def process_environment() -> Callable[[], dict[str, str]]:
    """Return a function that returns variables for a new process of the app.

    If the app has a database, override this fixture in ``conftest.py``, and return the variable
    with the address of a new, empty database.
    """
    return dict


@pytest.fixture(scope="session")
def local_flyte(project_and_domain: tuple[str, str]) -> Iterator[LocalFlyte]:
    """Run a local Flyte server to which nothing is deployed yet."""
    assert not REAL_ENDPOINT, "tests with local_flyte need a marker of NOT_ON_A_REAL_FLYTE"
    with LocalFlyte(*project_and_domain) as local_flyte:
        yield local_flyte


@pytest.fixture(scope="session")
def flyte_variables(
    request: pytest.FixtureRequest, project_and_domain: tuple[str, str]
) -> Iterator[dict[str, str]]:
    """Set the environment variables of a deployed app in this process, and yield them."""
    project, domain = project_and_domain
    variables = {"_U_EP_OVERRIDE": REAL_ENDPOINT or ""}
    variables |= {"FLYTE_PROJECT": project, "FLYTE_DOMAIN": domain}
    if not REAL_ENDPOINT:
        variables = request.getfixturevalue("local_flyte").app_environment()
    variables["FLYTE_TIMEOUT"] = "100"  # seconds; enough on a busy machine
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield variables


@pytest.fixture(scope="session")
def app_tasks(request: pytest.FixtureRequest) -> None:
    """Deploy the tasks of ``deployment.py``, for tests of endpoints that use such a task."""
    if not REAL_ENDPOINT:  # ``make deploy`` deploys the tasks to a real Flyte
        request.getfixturevalue("local_flyte").register(request.config.rootpath)


@pytest.fixture
def received(local_flyte: LocalFlyte) -> Callable[[], list[ReceivedCall]]:
    """Return a function that returns the calls that Flyte has received since the test began."""
    local_flyte.clear_calls()
    return lambda: local_flyte.calls


def _client_as(name: str | None) -> Any:
    @pytest.fixture(scope="module", name=name or "anonymous")
    def client(url: str) -> Iterator[httpx.Client]:
        with client_of(url, name) as client:
            yield client

    return client


alice, bob = _client_as("alice"), _client_as("bob")  # may run tasks
victor = _client_as("victor")  # may only view
carol = _client_as("carol")  # may neither view nor run
anonymous = _client_as(None)


@pytest.fixture(scope="module")
def expired(url: str) -> Iterator[httpx.Client]:
    with suppress(Exception), acting_as("expired"):
        list(remote.Project.listall())
        pytest.skip("this Flyte accepts any token")
    with client_of(url, "expired") as client:
        yield client


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers. Refuse a real Flyte if TLS or the token of a test user is missing."""
    for name, reason in NOT_ON_A_REAL_FLYTE.items():
        config.addinivalue_line("markers", f"{name}: {reason}")
    tokens = [os.environ.get(f"FLYTE_TEST_TOKEN_{name}") for name in ("ALICE", "BOB")]
    if REAL_ENDPOINT and (REAL_ENDPOINT.startswith("http://") or None in tokens):
        raise pytest.UsageError(
            "the tests need a Flyte with TLS and authentication: set FLYTE_TEST_ENDPOINT to"
            " dns:///host[:port], and FLYTE_TEST_TOKEN_ALICE and FLYTE_TEST_TOKEN_BOB to the"
            " tokens of two users"
        )


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Read the result of `new_users` from the process of pytest-xdist that ran these tests."""
    if (covered := getattr(node, "workeroutput", {}).get("covered")) is not None:
        node.config.stash[COVERED] = covered


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send the result of `new_users` to the main process of pytest-xdist."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["covered"] = session.config.stash.get(COVERED, None)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """List the endpoints and the functions of ``app/`` that no guarantee test has executed."""
    if (covered := config.stash.get(COVERED, None)) is None:
        return
    untested, unexecuted = covered["untested"], covered["unexecuted"]
    lines = [f"untested: {name} ({reason})" for name, reason in untested.items()]
    lines += [f"not executed: {functions}" for functions in unexecuted or ()]
    if unexecuted is not None:
        terminalreporter.section("not covered by the guarantee tests")
        terminalreporter.write_line(
            "\n".join(lines)
            or "Nothing: the tests have executed all endpoints and functions of app/."
        )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """If the tests run against a real Flyte, skip tests that need the local Flyte server."""
    for item in items if REAL_ENDPOINT else ():
        for name, reason in NOT_ON_A_REAL_FLYTE.items():
            if item.get_closest_marker(name):
                item.add_marker(pytest.mark.skip(reason=reason))
