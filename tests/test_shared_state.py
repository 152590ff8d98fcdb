"""Mistakes in a developer's code that keep data of one caller for another: all are found."""

import re
from pathlib import Path

import pytest
from fastapi.routing import APIRoute
from template import ROOT

from . import shared_state
from .baking import BIN, edit, ended

pytestmark = pytest.mark.slow

GUARANTEES = "tests/test_guarantees.py"
PATHS = {route.path for route in shared_state.router.routes if isinstance(route, APIRoute)}
PATHS.add("/mistakes/mounted/page")
MISTAKES = {path for path in PATHS if path.startswith("/mistakes/")}
FOUND_BY = "second_caller|caller_without_rights|concurrent_callers_get"
RELEVANT = f"{FOUND_BY}|container|invalid_credentials|is_executed|after_the|get_changes".replace(
    "|", " or "
)
BETWEEN = {"/between/board", "/between/z-title"}
CONCURRENT = {
    "/mistakes/overwritten-global",
    "/mistakes/runs/{name}/stream",
    "/mistakes/single-flight",
}
"""Mistakes that only concurrent callers show."""


@pytest.fixture
def planted(project: Path) -> Path:
    """A project with the router of ``shared_state.py``."""
    text = (ROOT / "tests/shared_state.py").read_text("utf-8")
    (project / "app/routers/shared_state.py").write_text(text, "utf-8")
    edit(project / "app/main.py", "    me,\n", "    shared_state,\n    me,\n")
    edit(project / "app/main.py", "middleware=[", "middleware=[*shared_state.MIDDLEWARE, ")
    example = '    ("POST", "/files")'
    edit(project / GUARANTEES, example, shared_state.EXAMPLES.lstrip("\n") + example)
    return project


def test_guarantees_fail_only_for_endpoints_with_planted_mistakes(planted: Path) -> None:
    options = ["-q", "--tb=short", "--show-capture=no", "-k", RELEVANT, GUARANTEES]
    output = ended([BIN / "python", "-m", "pytest", *options], planted).stdout
    failures = re.findall(r"^FAILED \S+::test_(\S+?)\[\w+ (/\S+)\]", output, re.MULTILINE)
    unexecuted = ("every_operation_is_executed", "/unexecuted/orders")
    assert [one for one in failures if unexecuted[1] in one] == [unexecuted], output
    assert (
        "POST /unexecuted/orders responded with 422 (body.item: Field required; body.amount: Field"
        " required), so nothing was tested. Add an example to EXAMPLES in tests/test_guarantees.py:"
        " {('POST', '/unexecuted/orders'): {'json': {'item': 'tea', 'amount': 1}}}"
    ) in output
    failures.remove(unexecuted)
    late = {path for test, path in failures if test == "no_work_goes_on_after_the_response"}
    assert late == {path for path in PATHS if path.startswith("/late/")}, output
    assert ("get_changes_nothing_in_flyte", "/changing/get") in failures
    failures = [one for one in failures if one[1] not in {*late, "/changing/get"}]
    assert "\nuntested: GET /innocent/untested (needs a printer)\n" in output
    assert "\nnot executed: app/routers/shared_state.py: no_example, untested\n" in output
    assert {path for _, path in failures} == MISTAKES, output
    found = {path for test, path in failures if re.match(FOUND_BY, test)}
    assert MISTAKES - found == {"/mistakes/runs/{name}/locked"}  # the second caller gets no success
    assert re.search(r"locked: ann-\w+'s response contains ann-\w+'s subject", output)
    alone = {path for test, path in failures if test.startswith("second_caller")}
    assert MISTAKES - alone - {"/mistakes/runs/{name}/locked"} == CONCURRENT
    innocent = [path for path in PATHS if path.startswith("/innocent/") and "untested" not in path]
    missed = [path for path in PATHS if path.startswith("/missed/")]
    numbers = len(MISTAKES) + len(late) + 1 + len(BETWEEN)
    print(f"found {numbers}: {sorted({*MISTAKES, *late, *BETWEEN, '/changing/get'})}")
    print(f"missed {len(missed)}: {missed}; false alarms 0 of {len(innocent)}: {innocent}")
    claim = (
        f"the tests find {numbers} of {numbers + len(missed)} mistakes,"
        f" and report none of {len(innocent)} endpoints that are right."
    )
    assert claim in " ".join((planted / "SECURITY.md").read_text("utf-8").split())
    message = (
        r"GET /mistakes/setdefault: (ben-\w+)'s response contains (ann-\w+)'s subject\."
        r" The endpoint keeps data of an earlier caller: look for a global, a cache, `app\.state`,"
        r".*\2, calls to Flyte: UserInfo\n.*200.*\1, calls to Flyte: UserInfo\n.*200"
    )
    assert re.search(message, output, re.DOTALL), output
    assert re.search(r"GET /between/z-title: gus-\w+'s response contains finn-\w+'s subj", output)
    assert not re.search("/missed/", "".join(map(str, failures)))
    between = r"GET /between/board: finn-\w+'s response contains eva-\w+'s subject\."
    assert re.search(between, output), output
    assert re.search(r"The tool of GET /mistakes/tool: ben-\w+'s response contains ann-", output)
    assert "Add the parameter `_: CallerDep`" not in output
    assert re.search(r"app/routers/shared_state\.py:\d+: RECENT\n", output)
    assert not re.search(r"shared_state\.py:\d+: (RATES|BY_SUBJECT|VISITORS|CONFIG)", output)


def test_ruff_reports_globals_caches_and_mutable_defaults(planted: Path) -> None:
    output = ended([BIN / "ruff", "check", "--output-format=concise"], planted).stdout
    rules = {*re.findall(r"app/routers/shared_state\.py:\d+:\d+: (\S+)", output)}
    assert {"PLW0603", "TID251", "B006"} <= rules
