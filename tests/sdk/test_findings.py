"""docs/sdk-findings.md lists exactly those findings that can still be reproduced."""

import os
import re
import subprocess
import sys

import pytest
from template import ROOT

from ..baking import PROJECT

PAGE = (ROOT / "docs/sdk-findings.md").read_text("utf-8")
SECTION = re.compile(
    r"^### (\d+)\. (.+?)\n\n(\w+), .*?^```python\n(.*?)^```$.*?"
    r"\*\*Makes unnecessary:\*\* (.+?)\n\n",
    re.DOTALL | re.MULTILINE,
)
FINDINGS = SECTION.findall(PAGE)
"""Number, title, severity, reproduction, and the parts that are unnecessary once it is fixed."""


@pytest.mark.slow
@pytest.mark.weekly  # each starts the SDK and a control plane anew
@pytest.mark.parametrize(
    ("code", "unnecessary"), [each[3:] for each in FINDINGS], ids=[each[0] for each in FINDINGS]
)
def test_the_finding_can_still_be_reproduced(code: str, unnecessary: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.sdk"],
        input=code,
        cwd=ROOT,
        # Unless a reproduction changes it, the SDK sends no reports. It also checks for pytest.
        env={**os.environ, "PYTHONPATH": str(ROOT / PROJECT)}
        | {"DO_NOT_TRACK": "1", "PYTEST_CURRENT_TEST": ""},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, (
        "it is fixed, or its reproduction is broken. If it is fixed, this can go:"
        f" {unnecessary}\n{done.stdout}{done.stderr}"
    )


def test_the_table_lists_each_finding_with_its_severity() -> None:
    rows = re.findall(r"^\| \[(\d+)\]\(#\S+\) \| (.+?) \| (\w+) \| [\w ]+ \| [SM] \|$", PAGE, re.M)
    assert rows == [(number, title, word.lower()) for number, title, word, *_ in FINDINGS]
    assert [number for number, *_ in rows] == [str(n + 1) for n in range(PAGE.count("\n### "))]


def test_names_of_unnecessary_parts_exist() -> None:
    files = [*(ROOT / PROJECT).glob("passthrough/**/*.py"), *(ROOT / PROJECT).glob("app/**/*.py")]
    code = "\n".join(path.read_text("utf-8") for path in files)
    named = [name for *_, unnecessary in FINDINGS for name in re.findall(r"`(.+?)`", unnecessary)]
    assert len(named) > 10
    assert [
        name for name in named if name.split(".")[-1] not in code and name != "deployment.py"
    ] == []
