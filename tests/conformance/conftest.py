"""Fixtures: the Flyte of the command-line options, or local Flyte servers."""

import functools
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from connectrpc.errors import ConnectError
from flyteidl2.project.project_service_pb2 import GetProjectRequest

from .client import Flyte, Person

KINDS = ("union", "open-source", "devbox")
PEOPLE = ("alice", "bob", "victor", "carol", "expired")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance")
    group.addoption("--flyte", type=Path, help="config file of the flyte command for a real Flyte")
    group.addoption("--kind", choices=KINDS, help="kind of the real Flyte")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "only(kinds): kinds of Flyte for a case")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each case on the matching kinds of Flyte, or on the real Flyte."""
    if "flyte" not in metafunc.fixturenames:
        return
    mark = metafunc.definition.get_closest_marker("only")
    kinds: tuple[str, ...] = mark.args if mark else KINDS
    # Local Flytes execute tasks with the same code; none is as open-source behind a sign-in.
    others = [pytest.mark.weekly] * ("deployed" in metafunc.fixturenames)
    local = [kind for kind in kinds if kind != "open-source"]
    params = [pytest.param(kind, marks=others * (kind != local[0])) for kind in local]
    if (kind := metafunc.config.getoption("kind", None)) is not None:
        skipped = pytest.mark.skip(reason=f"only for {', '.join(kinds)}")
        params = [pytest.param(kind, marks=[skipped] * (kind not in kinds))]
    metafunc.parametrize("flyte", params, indirect=True)


@pytest.fixture(scope="session")
def flyte_of(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Flyte]]:
    config = request.config.getoption("flyte", None)
    with ExitStack() as stack:
        yield functools.cache(lambda kind: _real(kind, config) if config else _local(kind, stack))


def _local(kind: str, stack: ExitStack) -> Flyte:
    from local_flyte import LocalFlyte, Mode  # noqa: PLC0415 - not for a real Flyte

    flyte = stack.enter_context(LocalFlyte(mode=Mode(kind)))
    tokens = {name: flyte.people[name].token for name in PEOPLE}
    # The SDK caches uploads there by endpoint, which an earlier local server may have used.
    home = {"HOME": str(flyte.home)}
    return Flyte(flyte.config_file(), kind, tokens, home)


def _real(kind: str, config: Path) -> Flyte:
    """Return the Flyte of the options; exit if it is unreachable or tasks cannot be deployed."""
    tokens = {name: os.environ.get(f"FLYTE_TEST_TOKEN_{name.upper()}", "") for name in PEOPLE}
    flyte = Flyte(config, kind, {name: token for name, token in tokens.items() if token})
    try:
        alice = Person(flyte, flyte.tokens.get("alice"))
        alice.projects.get_project(GetProjectRequest(id=flyte.project))
        _ = flyte.version
    except (ConnectError, ValueError) as error:
        pytest.exit(f"Check the config and the tokens for {flyte.url}: {error}", returncode=2)
    return flyte


@pytest.fixture
def flyte(request: pytest.FixtureRequest, flyte_of: Callable[[str], Flyte]) -> Flyte:
    return flyte_of(request.param)


@pytest.fixture
def deployed(flyte: Flyte) -> None:
    _ = flyte.version


@pytest.fixture
def unique() -> str:
    return f"c{secrets.token_hex(6)}"


def _fixture(name: str) -> object:
    """Create a fixture for a user, which aborts the user's runs at the end of a case."""

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
