"""docs/sdk-findings.md lists exactly those findings that can still be reproduced."""

import re
import sys
from pathlib import Path

import pages
import pytest
from template import ROOT

from .baking import PROJECT, ended

ROWS = pages.data("sdk_findings")["rows"]
SCRIPTS = sorted((ROOT / "docs/sdk-findings").glob("f*.py"))


@pytest.mark.slow
@pytest.mark.weekly  # each starts the SDK and a control plane anew
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_sdk_finding_is_reproducible(script: Path) -> None:
    # Unless a reproduction changes it, the SDK sends no reports.
    done = ended([sys.executable, script], ROOT, DO_NOT_TRACK="1")
    assert done.returncode == 0, (
        "it is fixed, or its reproduction is broken. If it is fixed, the table in"
        f" docs/sdk-findings.md says what to delete.\n{done.stdout}"
    )


def test_findings_table_lists_scripts_and_existing_code() -> None:
    assert [row["script"] for row in ROWS] == [script.name for script in SCRIPTS]
    files = [file for part in ("passthrough", "app") for file in (ROOT / PROJECT / part).rglob("*")]
    code = "".join(file.read_text("utf-8") for file in files if file.suffix == ".py")
    named = [name for row in ROWS for name in re.findall(r"`(.+?)`", row["delete"])]
    assert [name for name in named if name.split(".")[-1] not in code] == []
