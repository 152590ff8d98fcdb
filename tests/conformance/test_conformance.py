"""The local Flyte, in all three kinds, answers like the real ones; differences are reported."""

import contextlib
import functools
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from local_flyte import LocalFlyte

from .__main__ import main
from .local import local_target
from .runner import KINDS, Case, Runner, cases

ROOT = Path(__file__).parents[2]
CASES = cases()


def repeats(kind: str, case: Case) -> bool:
    """Tell whether the same code answers this case alike in another kind, which is also tried.

    The devbox has the open source's services, and runs go the same way in every kind.
    """
    alike = kind == "devbox" and "open-source" in case.kinds
    alike |= kind != "union" and case.kinds == KINDS and case.needs_tasks
    return alike and kind not in json.dumps(case.steps)


EXPECTED = [
    pytest.param(kind, case, marks=[pytest.mark.weekly] * repeats(kind, case))
    for kind in KINDS
    for case in CASES
    if kind in case.kinds
]


@pytest.fixture(scope="module")
def runner_of() -> Iterator[Callable[[str], Runner]]:
    """Return a function that returns a runner for the local Flyte of a kind."""
    with contextlib.ExitStack() as stack:
        yield functools.cache(lambda kind: Runner(stack.enter_context(local_target(kind))))


@pytest.mark.parametrize(("kind", "case"), EXPECTED, ids=str)
def test_the_local_flyte_answers_as_expected(
    runner_of: Callable[[str], Runner], kind: str, case: Case
) -> None:
    runner = runner_of(kind)
    assert runner.missing(case) is None
    assert runner.run(case) == []


def test_every_kind_of_difference_is_detected() -> None:
    """For each kind of comparison, the runner detects a missing value."""
    with local_target("union") as target:
        case = next(case for case in CASES if case.name == "a project has three domains")
        step = dict(case.steps[0])
        runner = Runner(target)
        mistakes: list[dict[str, object]] = [
            {"error": "not_found"},
            {"error": {"union": "not_found"}},
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
            {"messages": {"any": {"project": {"name": "another"}}}},
            {"save": {"name": "project.another"}},
            {"between": [{**step, "call": "GetProject", "request": {"id": "another"}}]},
        ]
        for wrong in mistakes:
            changed = Case(case.service, case.name, case.kinds, [{**step, **wrong}])
            assert len(runner.run(changed)) == 1, wrong


@pytest.fixture(scope="module")
def union() -> Iterator[LocalFlyte]:
    """A local Flyte, tested as if it were a real one."""
    with LocalFlyte() as flyte:
        yield flyte


@pytest.mark.parametrize(
    ("options", "token", "said"),
    [
        ([], None, "There is no token to call Flyte with: put one into FLYTE_TEST_TOKEN_ALICE"),
        ([], " ", "There is no token in FLYTE_TEST_TOKEN_ALICE"),
        ([], "victor", "The SDK could not deploy the tasks"),
        (
            ["--only", "no such case"],
            "alice",
            "--only no such case: no case of union has",
        ),
        ([], "of-nobody", "refuses the token in FLYTE_TEST_TOKEN_ALICE"),
        (["--project", "another"], "alice", "has no project another; give another with --project"),
        (["--domain", "another"], "alice", "has no domain another, only development"),
        (["--url", "flyte.example.com"], "alice", "--url must begin with https:// or http://"),
        (["--url", "https://{free}"], "alice", "No Flyte answers at https://{free}"),
        ([], "alice", "Give the kind of Flyte"),
    ],
)
def test_a_comparison_that_cannot_start_prints_the_reason(
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
            known = token in ("alice", "victor")
            os.environ["FLYTE_TEST_TOKEN_ALICE"] = union.token(token) if known else token
        nobody_listens.bind(("127.0.0.1", 0))
        names = {
            "host": union.url.partition("://")[2],
            "free": f"127.0.0.1:{nobody_listens.getsockname()[1]}",
        }
        given = ["--url", union.url, "--ca", str(union.ca_file), *options]
        kind = [] if said.startswith("Give the kind") else ["--kind", "union"]
        assert main([*(each.format(**names) for each in given), *kind]) == 2
    printed = capsys.readouterr()
    assert said.format(**names) in printed.err
    assert printed.out == ""
    assert union.token("alice") not in printed.err
    assert union.token("victor") not in printed.err


RUNS = "flyteidl2.workflow.run_service.RunService"
PROJECT = {
    "call": "flyteidl2.project.project_service.ProjectService/GetProject",
    "request": {"id": "flytesnacks"},
}


@pytest.fixture
def ask_union(
    union: LocalFlyte, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., tuple[int, list[dict[str, Any]]]]:
    """Return a function that runs cases as on the command line, and returns the code and lines."""
    monkeypatch.setenv("FLYTE_TEST_TOKEN_ALICE", union.token("alice"))
    file = tmp_path / "results"

    def ask(given: list[Case], *options: str) -> tuple[int, list[dict[str, Any]]]:
        monkeypatch.setattr("tests.conformance.__main__.cases", lambda: given)
        command = ["--kind", "union", "--url", union.url, "--ca", str(union.ca_file)]
        code = main([*command, "--output", str(file), *options])
        return code, [json.loads(line) for line in file.read_text().splitlines()]

    return ask


def case(name: str, *steps: dict[str, Any]) -> Case:
    return Case(RUNS, name, KINDS, list(steps))


def test_some_cases_can_be_run_and_each_is_printed_as_it_ends(
    ask_union: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = case("the wrong project", {**PROJECT, "answer": {"project": {"id": "another"}}})
    victor = case("victor's project", {**PROJECT, "as": "victor"})
    given = [case("a run", PROJECT), case("a project", PROJECT), wrong, victor]
    code, lines = ask_union(given, "--only", "PROJECT")
    assert code == 1
    assert [(each["case"], each["outcome"], each["reason"]) for each in lines] == [
        ("a project", "as expected", None),
        ("the wrong project", "differs", None),
        ("victor's project", "not tried", "no token of victor"),
    ]
    where = "answer.project.id"
    difference = {"where": where, "expected": "another", "got": "flytesnacks"}
    assert [each["differences"] for each in lines] == [[], [difference], []]
    assert all(each["seconds"] >= 0 for each in lines)
    printed = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"  1/3 +\d+\.\d s  as expected RunService: a project", printed[0])


@pytest.mark.slow
@pytest.mark.weekly
def test_it_needs_only_the_sdk_and_yaml_to_test_a_cluster(union: LocalFlyte) -> None:
    """Run the command in tests/conformance/README.md."""
    uv = "-m uv run --no-project --with flyte --with pyyaml"
    command = f"{uv} python -m tests.conformance --kind union --wait 60 --url {union.url}"
    result = subprocess.run(
        [sys.executable, *command.split(), "--ca", str(union.ca_file)],
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
    cases_, expected, different, not_tried = map(int, all_services.split("│")[2:-1])
    assert cases_ == expected + not_tried
    assert not_tried > 3
    assert different == 0
