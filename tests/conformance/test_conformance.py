"""The local Flyte, in all three kinds, answers like the real ones; differences are reported."""

import contextlib
import functools
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from local_flyte import LocalFlyte

from .__main__ import local_target, main
from .runner import KINDS, Case, Runner, cases

ROOT = Path(__file__).parents[2]
CASES = cases()


def repeats(kind: str, case: Case) -> bool:
    """Tell whether the same code answers this case alike in another kind, which is also tried.

    The devbox has the open source's services, and runs go the same way in every kind.
    """
    if kind == "devbox":
        return "open-source" in case.kinds or case.needs_tasks
    of_runs = case.kinds == KINDS and case.needs_tasks and kind not in json.dumps(case.steps)
    return kind == "open-source" and of_runs


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


@pytest.mark.parametrize(
    "wrong",
    [
        {"error": {"union": "not_found"}},
        {"request": {"id": "another"}},
        {"as": "nobody"},
        {"answer": {"project": {"id": "/[0-9]+/"}}},
        {"answer": {"project": {"id": None}}},
        {"answer": {"project": {"domains": []}}},
        {"answer": {"project": {"domains": {"contains": [{"id": "another"}]}}}},
        {"answer": {"project": {"domains": {"lacks": [{"id": "staging"}]}}}},
        {"answer": {"project": {"labels": {"contains": [{}]}}}},
        {"messages": {"count": 2}},
        {"messages": {"last": {"project": {"name": "another"}}}},
        {"messages": {"until": {"project": {"name": "another"}}}},
        {"messages": {"any": {"project": {"name": "another"}}}},
        {"save": {"name": "project.another"}},
    ],
    ids=str,
)
def test_every_kind_of_difference_is_detected(
    runner_of: Callable[[str], Runner], wrong: dict[str, object]
) -> None:
    case = next(case for case in CASES if case.name == "a project has three domains")
    changed = Case(case.service, case.name, case.kinds, [{**case.steps[0], **wrong}])
    assert len(runner_of("union").run(changed)) == 1


@pytest.mark.parametrize(
    ("options", "token", "said"),
    [
        ([], "of-nobody", "does not return the project flytesnacks: unauthenticated"),
        ([], "victor", "The SDK could not deploy the tasks"),
        (["--url", "https://127.0.0.1:1"], "alice", "https://127.0.0.1:1 does not return"),
    ],
)
def test_a_comparison_that_cannot_start_prints_the_reason(
    local_flyte: LocalFlyte,
    options: list[str],
    token: str,
    said: str,
    *,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = token in ("alice", "victor")
    monkeypatch.setenv("FLYTE_TEST_TOKEN_ALICE", local_flyte.token(token) if known else token)
    assert main(["--url", local_flyte.url, "--ca", str(local_flyte.ca_file), *options]) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    for name in ("alice", "victor"):
        assert local_flyte.token(name) not in printed.out + printed.err


def test_some_cases_can_be_run_and_each_is_printed_as_it_ends(
    local_flyte: LocalFlyte, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    projects = "flyteidl2.project.project_service.ProjectService"
    get = {"call": "GetProject", "request": {"id": "flytesnacks"}}
    wrong = {**get, "answer": {"project": {"id": "another"}}}
    made = [Case(projects, name, KINDS, [get]) for name in ("a project", "another")]
    made.append(Case(projects, "the wrong project", KINDS, [wrong]))
    made.append(Case(projects, "victor's project", KINDS, [{**get, "as": "victor"}]))
    monkeypatch.setattr("tests.conformance.__main__.cases", lambda: made)
    monkeypatch.setenv("FLYTE_TEST_TOKEN_ALICE", local_flyte.token("alice"))
    command = ["--url", local_flyte.url, "--ca", str(local_flyte.ca_file), "--only", "project"]
    assert main(command) == 1
    printed = re.sub(r" +[\d.]+ s +", " ", capsys.readouterr().out)
    assert printed.splitlines() == [
        "  1/3 as expected ProjectService: a project",
        "  2/3 differs     ProjectService: the wrong project",
        "    answer.project.id: expected another, got flytesnacks",
        "  3/3 not tried   ProjectService: victor's project",
        "    no token of victor",
        "1 as expected, 1 differs, 1 not tried",
    ]


@pytest.mark.slow
@pytest.mark.weekly
def test_it_needs_only_the_sdk_and_yaml_to_test_a_cluster(local_flyte: LocalFlyte) -> None:
    """Run the command in tests/conformance/README.md."""
    uv = "-m uv run --no-project --with flyte --with pyyaml"
    command = f"{uv} python -m tests.conformance --kind union --wait 60 --url {local_flyte.url}"
    result = subprocess.run(
        [sys.executable, *command.split(), "--ca", str(local_flyte.ca_file)],
        cwd=ROOT,
        env={
            **os.environ,
            "FLYTE_TEST_TOKEN_ALICE": local_flyte.token("alice"),
            "FLYTE_TEST_TOKEN_BOB": local_flyte.token("bob"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "no token of victor" in result.stdout
    assert re.search(r"^\d+ as expected, \d+ not tried$", result.stdout, re.MULTILINE)
