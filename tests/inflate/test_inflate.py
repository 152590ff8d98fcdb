"""A sample of `make inflate`, without its limit of time: what once stopped, or filled, an app."""

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

from . import answers, inputs
from .measuring import measured

pytestmark = pytest.mark.slow

SAMPLE = [
    # A client's side
    r"quote body all: (lines|lone|7,000 lists|the cred).*, (alice|a long cookie)",
    r"(tool:)?(leave|interrupt|end) body .*(all|body): true, alice",
    r"leave body all: the credential, repeated, a long cookie",
    r"(tool:)?run_task body .*inputs: (a key|70,000 keys|an empty key), alice",
    r"(tool:)?rerun body .*inputs: (a key|an empty key|an object), alice",
    r"run_task body inputs\.(pause: a duration|at: a time|number: 900,000 digits), alice",
    r"tool:run_task body params.arguments.inputs: (7,000 lists|200,000 empty objects), alice",
    r"answer_condition body value: (900,000 digits|a lone surrogate|text), alice",
    r"list_runs query phase 3,000 times: spaces, alice",
    r"me header (X-Request-ID|Cookie): =",
    # Flyte's side
    r"^me UserInfo\.subject: text$",
    r"^list_projects ListProjects\.projects\.projects\.(name|description): text$",
    r"^get_run_io GetActionData\.outputs.*\.scalar\.binary\.value: (keys|exten|empty)",
    r"^get_run_io GetActionData\.outputs\.literals: 30,000 entries$",
    r"^list_actions GetActionDetails\.details\.attempts: 30,000 entries(, 50 times)?$",
    r"^list_(conditions|waiting) GetActionDetails\.details\.condition\.prompt: text, 50 times$",
    r"^run_task CreateRun\.run: missing$",
    r"^rerun (GetRunDetails\.details: missing|GetActionData\.inputs\.literals: 30,000 entries)$",
    r"^open_report CreateDownloadLink\.pre_signed_urls\.signed_url: text$",
    r"^get_run GetRunDetails\.error: (internal|not_found) the credential$",
    r"^get_task GetTaskDetails\.all: (noise|nothing|too large)$",
]
"""Patterns of the names of cases."""


@pytest.fixture(scope="module")
def problems(
    default_project: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, list[str]]]:
    """What was found, by case."""
    with measured(default_project, tmp_path_factory.mktemp("inflate")) as (app, operations):
        found = {}
        recorded = app.repeating.answers
        for case in chain(inputs.cases(operations), answers.cases(operations, recorded)):
            if any(re.search(pattern, case.name) for pattern in SAMPLE):
                outcome = app.try_case(case)
                found[case.name] = [str(outcome), *outcome.problems] if outcome else ["given up"]
        yield found


@pytest.mark.parametrize("pattern", SAMPLE)
def test_nothing_costs_more_than_it_weighs(problems: dict[str, list[str]], pattern: str) -> None:
    found = {name: told for name, told in problems.items() if re.search(pattern, name)}
    assert found
    wrong = {
        name: told
        for name, told in found.items()
        if {*told[1:]} - {"loop"}  # no test depends on timing
    }
    assert not wrong
