"""Tests that all findings in docs/sdk-findings.md are reproducible."""

import re
import sys
from pathlib import Path

import pages
import pytest
from template import ROOT

from local_flyte.processes import DONE  # the SDK sometimes aborts after its work

from .baking import PROJECT, ended

ROWS = pages.data("sdk_findings")["rows"]
MODULES: dict[str, str] = {}
"""The code of the project's modules, by their names without folders."""
for pattern in ("passthrough/**/*.py", "app/**/*.py", "*.py"):
    for file in (ROOT / PROJECT).glob(pattern):
        MODULES[file.name] = MODULES.get(file.name, "") + file.read_text("utf-8")
SCRIPTS = sorted((ROOT / "docs/sdk-findings").glob("f*.py"))


@pytest.mark.slow
@pytest.mark.weekly  # each test starts the SDK and a control plane
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_sdk_finding_is_reproducible(script: Path) -> None:
    # The SDK sends no reports, unless a script enables them.
    done = ended([sys.executable, script], ROOT, DO_NOT_TRACK="1")
    assert done.returncode in DONE, (
        "the defect is fixed, or the script is broken. If the defect is fixed, delete the code that"
        f" docs/tables/sdk_findings.toml names.\n{done.stdout}"
    )


def test_findings_table_has_each_script() -> None:
    assert [row["script"] for row in ROWS] == [script.name for script in SCRIPTS]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["script"])
def test_findings_table_refers_to_existing_code(row: dict[str, str]) -> None:
    """Each module exists, and contains the other names."""
    names = re.findall(r"`(.+?)`", row["delete"])
    modules = [name for name in names if name.endswith(".py")]
    code = "".join(MODULES[module] for module in modules)
    assert [name for name in names if name not in modules and name.split(".")[-1] not in code] == []
