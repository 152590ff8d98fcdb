"""A pytest plugin: an app on a real socket, people who call it, and runs that they start.

A suite loads it with ``pytest_plugins = ["local_flyte.testing"]`` in its ``conftest.py``, and
defines the fixture ``url``, the address of its app. ``guarantees.py`` tests every
endpoint.
PYTEST_DONT_REWRITE

Nothing here uses an endpoint of the app. With ``FLYTE_TEST_ENDPOINT`` (``dns:///host[:port]``) the
tests run against a real Flyte: see docs/operating.md.
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
NOT_ON_A_REAL_FLYTE = {
    "authorization": "depends on rights, and needs other people than alice and bob",
    "steers_flyte": "makes Flyte fail or hang, which only the local one can do",
    "reads_what_flyte_received": "reads the calls to Flyte, which only the local one records",
    "deploys": "deploys this project, which a real Flyte would keep",
}
"""The marks, with the reason to skip a test. A test without a mark runs on every Flyte."""

_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # reading the system's authorities takes 20 ms


@contextmanager
def serving(app: ASGIApp, **options: Any) -> Iterator[str]:
    """Serve an app from a thread, with uvicorn's options, on any free port; yield its URL."""
    config = uvicorn.Config(app, port=0, **({"log_config": None} | UVICORN | options))
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)  # a failing test may block it
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive())
        assert server.started, "the app did not start"
        scheme = "https" if config.is_ssl else "http"
        yield f"{scheme}://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive(), "the app does not stop: a request is still being served"


def wait_until(condition: Callable[[], object], seconds: float = 300) -> None:
    """Wait for a condition, and fail if it does not come true."""
    began = time.monotonic()
    while not condition():
        waited = time.monotonic() - began
        assert waited < seconds, f"not within {seconds} seconds"
        time.sleep(min(0.02 + waited / 20, 0.1))  # asking costs, too


def bearer(name: str) -> str:
    """Return the Authorization header of a person on the local Flyte, or on a real one."""
    if REAL_ENDPOINT:
        return f"Bearer {os.environ.get(f'FLYTE_TEST_TOKEN_{name.upper()}', name)}"
    return f"Bearer {PEOPLE[name].token}"


def client_of(url: str, name: str | None) -> httpx.Client:
    """Make a client that calls as a person, with a bearer token, or anonymously."""
    headers = {"Authorization": bearer(name)} if name else {}
    return httpx.Client(base_url=url, headers=headers, timeout=200, trust_env=False, verify=_NO_TLS)


class Event(NamedTuple):
    """A server-sent event."""

    type: str
    data: str
    id: str


def events(response: httpx.Response) -> Iterator[Event]:
    """Yield the server-sent events of a response, as FastAPI sends them, without comments."""
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
    """Let the SDK call Flyte as a person inside the block."""
    asyncio.run(connect(load_settings(Settings)))
    with remote.auth_metadata(("authorization", bearer(name))):
        yield


def start(task: str, person: str = "alice", /, **inputs: Any) -> str:
    """Start a run of a task as a person; return the name of the run."""
    with acting_as(person):
        found = remote.Task.get(task, auto_version="latest")
        return str(flyte.with_runcontext("remote").run(found, **inputs).name)


def ended(run: str) -> str:
    """Wait until a run has ended; return its name."""
    with acting_as("alice"):
        wait_until(lambda: remote.RunDetails.get(name=run).done())
    return run


@contextmanager
def long_run(task: str, **inputs: Any) -> Iterator[str]:
    """Start a run as alice, and abort it when the block ends; yield its name."""
    run = start(task, **inputs)
    try:
        yield run
    finally:
        with acting_as("alice"):
            remote.Run.get(run).abort()


# Fixtures


@pytest.fixture(scope="session")
def project_and_domain() -> tuple[str, str]:
    """Where the tests run. A suite defines its own."""
    return "flytesnacks", "development"


@pytest.fixture(scope="session")
def local_flyte(project_and_domain: tuple[str, str]) -> Iterator[LocalFlyte]:
    """A local Flyte without deployments."""
    assert not REAL_ENDPOINT, "a test that uses the local Flyte needs a mark"
    with LocalFlyte(*project_and_domain) as local_flyte:
        yield local_flyte


@pytest.fixture(scope="session")
def flyte_variables(
    request: pytest.FixtureRequest, project_and_domain: tuple[str, str]
) -> Iterator[dict[str, str]]:
    """The variables of a deployed app, which are also set in this process."""
    project, domain = project_and_domain
    variables = {"_U_EP_OVERRIDE": REAL_ENDPOINT or ""}
    variables |= {"FLYTE_PROJECT": project, "FLYTE_DOMAIN": domain}
    if not REAL_ENDPOINT:
        variables = request.getfixturevalue("local_flyte").app_environment()
    variables["FLYTE_TIMEOUT"] = "100"  # seconds: enough even on a busy machine
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield variables


@pytest.fixture(scope="session")
def app_tasks(request: pytest.FixtureRequest) -> None:
    """The tasks that ``deployment.py`` deploys: for tests of endpoints that name one of them."""
    if not REAL_ENDPOINT:  # there, ``make deploy`` deploys them
        request.getfixturevalue("local_flyte").register(request.config.rootpath)


@pytest.fixture
def received(local_flyte: LocalFlyte) -> Callable[[], list[ReceivedCall]]:
    """The calls that the local Flyte has received since the test began."""
    local_flyte.clear_calls()
    return lambda: local_flyte.calls


def _client_as(name: str | None) -> Any:
    """Make a fixture with a client of the app that calls as this person."""

    @pytest.fixture(scope="module", name=name or "anonymous")
    def client(url: str) -> Iterator[httpx.Client]:
        with client_of(url, name) as client:
            yield client

    return client


alice, bob = _client_as("alice"), _client_as("bob")  # may run tasks
victor = _client_as("victor")  # may view everything, and change nothing
carol = _client_as("carol")  # has no rights on the project
anonymous = _client_as(None)


@pytest.fixture(scope="module")
def expired(url: str) -> Iterator[httpx.Client]:
    """A client with a token that is no longer valid."""
    with suppress(Exception), acting_as("expired"):
        list(remote.Project.listall())
        pytest.skip("this Flyte accepts any token")
    with client_of(url, "expired") as client:
        yield client


def pytest_configure(config: pytest.Config) -> None:
    """Register the marks, and refuse a Flyte without TLS and sign-in."""
    for name, reason in NOT_ON_A_REAL_FLYTE.items():
        config.addinivalue_line("markers", f"{name}: {reason}")
    tokens = [os.environ.get(f"FLYTE_TEST_TOKEN_{name}") for name in ("ALICE", "BOB")]
    if REAL_ENDPOINT and (REAL_ENDPOINT.startswith("http://") or None in tokens):
        raise pytest.UsageError(
            "the tests need a Flyte with TLS and sign-in: set FLYTE_TEST_ENDPOINT to"
            " dns:///host[:port], and FLYTE_TEST_TOKEN_ALICE and FLYTE_TEST_TOKEN_BOB to the"
            " tokens of two people"
        )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests that need the local Flyte if they run against another one."""
    for item in items if REAL_ENDPOINT else ():
        for name, reason in NOT_ON_A_REAL_FLYTE.items():
            if item.get_closest_marker(name):
                item.add_marker(pytest.mark.skip(reason=reason))
