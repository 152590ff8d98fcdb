"""The local Flyte, in all three kinds, answers as the real ones do; and differences are told of."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from local_flyte import LocalFlyte

from .__main__ import main
from .local import local_target
from .runner import KINDS, Case, Runner, cases

ROOT = Path(__file__).parents[2]
CASES = cases()
EXPECTED = [(kind, case) for kind in KINDS for case in CASES if kind in case.kinds]


@pytest.fixture(scope="module")
def runner(request: pytest.FixtureRequest) -> Iterator[Runner]:
    """Return what runs cases against a local Flyte of a kind."""
    with local_target(request.param) as target:
        yield Runner(target)


@pytest.mark.parametrize(
    ("runner", "case"),
    EXPECTED,
    indirect=["runner"],
    ids=lambda value: value if isinstance(value, str) else f"{value.service}: {value.name}",
)
def test_the_local_flyte_answers_as_expected(runner: Runner, case: Case) -> None:
    assert runner.missing(case) is None
    differences = runner.run(case)
    # A difference that is there no more is not to be called known.
    assert bool(differences) == bool(case.known_difference), differences


def test_a_difference_is_noticed() -> None:
    """Whatever the runner compares, it sees that it is not there."""
    with local_target("union") as target:
        case = next(case for case in CASES if case.name == "a project has three domains")
        step = dict(case.steps[0])
        runner = Runner(target)
        mistakes: list[dict[str, object]] = [
            {"error": "not_found"},
            {"request": {"id": "another"}},
            {"headers": {"Authorization": "Bearer another"}},
            {"answer": {"project": {"id": "another"}}},
            {"answer": {"project": {"id": "/[0-9]+/"}}},
            {"answer": {"project": {"id": None}}},
            {"answer": {"project": {"domains": []}}},
            {"answer": {"project": {"domains": {"contains": [{"id": "another"}]}}}},
            {"answer": {"project": {"domains": {"lacks": [{"id": "staging"}]}}}},
            {"answer": {"project": {"labels": {"contains": [{}]}}}},
            {"messages": {"count": 2}},
            {"messages": {"last": {"project": {"name": "another"}}}},
            {"save": {"name": "project.another"}},
            {"between": [{**step, "call": "GetProject", "request": {"id": "another"}}]},
        ]
        for wrong in mistakes:
            changed = Case(case.service, case.name, case.kinds, [{**step, **wrong}])
            assert len(runner.run(changed)) == 1, wrong


@pytest.fixture(scope="module")
def union() -> Iterator[LocalFlyte]:
    """A Flyte to compare as if it were a real one."""
    with LocalFlyte() as flyte:
        yield flyte


@pytest.mark.parametrize(
    ("options", "token", "said"),
    [
        ([], None, "There is no token to call Flyte with: put one into FLYTE_TEST_TOKEN_ALICE"),
        ([], " ", "There is no token in FLYTE_TEST_TOKEN_ALICE"),
        ([], "of-nobody", "refuses the token in FLYTE_TEST_TOKEN_ALICE"),
        (["--ca", "no-such.pem"], "alice", "There is no file no-such.pem"),
        (["--ca", __file__], "alice", "is no PEM file"),
        (["--project", "another"], "alice", "has no project another; --project names another"),
        (["--domain", "another"], "alice", "has no domain another, but development"),
        (["--url", "flyte.example.com"], "alice", "--url begins with https:// or http://"),
        (["--url", "http://{host}"], "alice", "No Flyte answers at http://{host}"),
        (["--url", "https://{free}"], "alice", "No Flyte answers at https://{free}"),
        ([], "alice", "Say which Flyte it is"),
    ],
)
def test_what_makes_a_comparison_impossible_is_said_in_a_sentence(
    union: LocalFlyte,
    options: list[str],
    token: str | None,
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with socket.socket() as nobody_listens, mock.patch.dict(os.environ):
        for name in [name for name in os.environ if name.startswith("FLYTE_TEST_TOKEN_")]:
            del os.environ[name]
        if token is not None:
            known = union.token(token) if token == "alice" else token
            os.environ["FLYTE_TEST_TOKEN_ALICE"] = known
        nobody_listens.bind(("127.0.0.1", 0))
        names = {
            "host": union.url.partition("://")[2],
            "free": f"127.0.0.1:{nobody_listens.getsockname()[1]}",
        }
        given = ["--url", union.url, "--ca", str(union.ca_file), *options]
        kind = [] if said.startswith("Say which") else ["--kind", "union"]
        assert main([*(each.format(**names) for each in given), *kind]) == 2
    printed = capsys.readouterr()
    assert said.format(**names) in printed.err
    assert printed.out == ""
    assert union.token("alice") not in printed.err


@pytest.mark.slow
def test_it_needs_no_more_than_the_sdk_and_yaml_where_a_cluster_is(union: LocalFlyte) -> None:
    """As tests/conformance/README.md says, and with what it prints there."""
    command = [
        sys.executable,
        "-m",
        "uv",
        "run",
        "--no-project",
        "--with",
        "flyte",
        "--with",
        "pyyaml",
    ]
    command += ["python", "-m", "tests.conformance", "--kind", "union", "--wait", "60"]
    result = subprocess.run(
        [*command, "--url", union.url, "--ca", str(union.ca_file)],
        cwd=ROOT,
        env={
            **os.environ,
            "COLUMNS": "200",
            "FLYTE_TEST_TOKEN_ALICE": union.token("alice"),
            "FLYTE_TEST_TOKEN_BOB": union.token("bob"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "no token of victor" in result.stdout
    (all_services,) = (line for line in result.stdout.splitlines() if line.startswith("│ all "))
    cases_, expected, different, not_tried, known = map(int, all_services.split("│")[2:-1])
    assert cases_ == expected + not_tried
    assert not_tried > 3
    assert (different, known) == (0, 0)
