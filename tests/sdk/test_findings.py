"""docs/sdk-findings.md lists exactly those findings that can still be reproduced."""

import re

import pytest
from template import ROOT

from ..baking import PROJECT
from .__main__ import PAGE, Finding, findings, reproduce


@pytest.mark.slow
@pytest.mark.weekly  # each starts the SDK and a control plane anew
@pytest.mark.parametrize("finding", findings(), ids=lambda finding: finding.title)
def test_the_finding_can_still_be_reproduced(finding: Finding) -> None:
    reproduce(finding)


def test_the_table_lists_each_finding_with_its_severity() -> None:
    page = PAGE.read_text("utf-8")
    rows = re.findall(r"^\| \[(\d+)\]\(#\S+\) \| (.+?) \| (\w+) \| [\w ]+ \| [SM] \|$", page, re.M)
    sections = re.findall(r"^### (\d+)\. (.+)\n\n(\w+), ", page, re.M)
    assert rows == [(number, title, word.lower()) for number, title, word in sections]
    assert [number for number, *_ in rows] == [str(n + 1) for n in range(len(rows))]


def test_names_of_unnecessary_parts_exist() -> None:
    files = [*(ROOT / PROJECT).glob("passthrough/**/*.py"), *(ROOT / PROJECT).glob("app/**/*.py")]
    code = "\n".join(path.read_text("utf-8") for path in files)
    named = [name for each in findings() for name in re.findall(r"`(.+?)`", each.unnecessary)]
    assert len(named) > 10
    assert [
        name for name in named if name.split(".")[-1] not in code and name != "deployment.py"
    ] == []
