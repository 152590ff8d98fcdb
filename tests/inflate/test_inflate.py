"""A sample of `make inflate`, without its limit of time: what once stopped, or filled, an app."""

import re
from pathlib import Path

import pytest

from . import answers, inputs
from .measuring import Outcome, measured

pytestmark = pytest.mark.slow

CLIENT = [
    r"quote body all: (lines|lone|7,000 lists|the cred).*, (alice|a long cookie)",
    r"(tool:)?(leave|interrupt|end) body .*(all|body): true, alice",
    r"leave body all: the credential, repeated, a long cookie",
    r'(tool:)?run_task body .*inputs: (a key|70,000 keys|\{"":0\}), alice',
    r'(tool:)?rerun body .*inputs: (a key|\{"":0\}), alice',
    r'run_task body inputs\.(pause: "-P9|at: "0001|big: 900,000 digits).*, alice',
    r"tool:run_task body params.arguments.inputs: (7,000 lists|200,000 empty objects), alice",
    r'answer_condition body value: (900,000 digits|"\\ud800"), alice',
    r"list_runs query phase 3,000 times: spaces, alice",
    r"me header (X-Request-ID|Cookie): =",
]
FLYTE = [
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
    r"^watch_actions WatchActions\.(all: 30,000 times|enriched_actions: 30,000 entries)$",
    r"^(get_run|list_runs|list_actions) .*\.status\.phase: 9999$",
    r"^list_conditions GetActionDetails\.details\.condition\.type\.simple: 9999$",
    r"^get_task GetTaskDetails\.all: (noise|nothing|too large)$",
]
"""Patterns of the names of cases, by whose message is odd."""


@pytest.fixture(scope="module")
def found(default_project: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """What each case has needed."""
    with measured(default_project, tmp_path_factory.mktemp("inflate")) as (app, operations):
        client = re.compile("|".join(CLIENT)), inputs.cases(operations)
        recorded = answers.cases(operations, app.repeating.answers)
        flyte = re.compile("|".join(FLYTE)), recorded
        return {
            case.name: app.try_case(case, tries=1)
            for pattern, cases in (client, flyte)
            for case in cases
            if pattern.search(case.name)
        }


@pytest.mark.parametrize("pattern", CLIENT + FLYTE)
def test_nothing_costs_more_than_it_weighs(found: dict[str, Outcome], pattern: str) -> None:
    outcomes = [found[name] for name in found if re.search(pattern, name)]
    assert outcomes
    # No test depends on timing.
    assert not [each for each in outcomes if {*each.problems} - {"loop"}]
