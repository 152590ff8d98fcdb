"""The Flyte of the cases: the one of the options, or else a local one of each kind."""

import functools
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from connectrpc.errors import ConnectError
from flyteidl2.project.project_service_pb2 import GetProjectRequest

from .client import KINDS, Flyte, Person

PEOPLE = ("alice", "bob", "victor", "carol", "expired")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance", "which Flyte")
    group.addoption("--url", help="its address, https://...; without it, local Flytes")
    group.addoption("--kind", choices=KINDS, help="the kind of Flyte")
    group.addoption("--ca", type=Path, help="PEM file of the authority to trust")
    group.addoption("--org", default="any", help="your organization on Union")
    group.addoption("--project", default="flytesnacks")
    group.addoption("--domain", default="development")
    group.addoption("--image", default="auto", help="for tasks, with the SDK; the default is its")
    group.addoption("--wait", type=float, default=300, help="seconds to wait for a run")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "only(kinds): the kinds of Flyte that a case is for")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a case on each kind of Flyte that it is for, or on the real one."""
    if "flyte" not in metafunc.fixturenames:
        return
    mark = metafunc.definition.get_closest_marker("only")
    kinds: tuple[str, ...] = mark.args if mark else KINDS
    # Local Flytes of all kinds execute tasks with the same code.
    others = [pytest.mark.weekly] * ("deployed" in metafunc.fixturenames)
    params = [pytest.param(kind, marks=others * (kind != kinds[0])) for kind in kinds]
    if (kind := metafunc.config.getoption("kind", None)) is not None:
        skipped = pytest.mark.skip(reason=f"only for {', '.join(kinds)}")
        params = [pytest.param(kind, marks=[skipped] * (kind not in kinds))]
    metafunc.parametrize("flyte", params, indirect=True)


@pytest.fixture(scope="session")
def flyte_of(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Flyte]]:
    """Return a function that returns the Flyte of a kind."""
    with ExitStack() as stack:
        if request.config.getoption("url", None):
            yield functools.cache(lambda kind: _real(kind, request.config))
        else:
            yield functools.cache(lambda kind: _local(kind, stack))


def _local(kind: str, stack: ExitStack) -> Flyte:
    """Start a local Flyte."""
    from local_flyte import PEOPLE, LocalFlyte, Mode  # noqa: PLC0415 - not for a real Flyte

    flyte = stack.enter_context(LocalFlyte(mode=Mode(kind)))
    tokens = {name: flyte.token(name) for name in PEOPLE}
    return Flyte(flyte.url, kind, tokens, ca_cert=flyte.ca_file.read_bytes())


def _real(kind: str, config: pytest.Config) -> Flyte:
    """Return the Flyte of the options, if it answers."""
    tokens = {name: os.environ.get(f"FLYTE_TEST_TOKEN_{name.upper()}", "") for name in PEOPLE}
    option = config.getoption
    flyte = Flyte(
        url=option("url").rstrip("/"),
        kind=kind,
        tokens={name: token for name, token in tokens.items() if token},
        ca_cert=option("ca").read_bytes() if option("ca") else None,
        org=option("org"),
        project=option("project"),
        domain=option("domain"),
        image=option("image"),
        wait_seconds=option("wait"),
    )
    try:
        alice = Person(flyte, flyte.tokens.get("alice"))
        alice.projects.get_project(GetProjectRequest(id=flyte.project))
        _ = flyte.version
    except ConnectError as error:
        reason = f"{flyte.url} does not return the project: {error.code.value}: {error.message}"
        pytest.exit(f"{reason}. Check --url, --ca, --project and the tokens.", returncode=2)
    except ValueError as error:
        pytest.exit(str(error), returncode=2)
    return flyte


@pytest.fixture
def flyte(request: pytest.FixtureRequest, flyte_of: Callable[[str], Flyte]) -> Flyte:
    """The Flyte of the case."""
    return flyte_of(request.param)


@pytest.fixture
def deployed(flyte: Flyte) -> None:
    """Deploy the tasks of tasks.py, once."""
    _ = flyte.version


@pytest.fixture
def unique() -> str:
    """A name that nothing else has."""
    return f"c{secrets.token_hex(6)}"


def _fixture(name: str) -> object:
    """Make a fixture of a person, whose runs are aborted when the case ends."""

    @pytest.fixture(name=name)
    def person(flyte: Flyte) -> Iterator[Person]:
        if flyte.kind != "devbox" and name not in flyte.tokens:
            pytest.skip(f"no token of {name}")
        person = Person(flyte, flyte.tokens.get(name))
        yield person
        for run in person.started:
            person.abort(run)

    return person


alice, bob, victor, carol, expired = map(_fixture, PEOPLE)
