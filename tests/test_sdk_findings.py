"""docs/sdk-findings.md lists exactly those findings that can still be reproduced."""

import ast
import re
import sys
from pathlib import Path

import pytest
from template import ROOT

from .baking import PROJECT, ended

PAGE = (ROOT / "docs/sdk-findings.md").read_text("utf-8")
SCRIPTS = sorted((ROOT / "docs/sdk-findings").glob("f*.py"))


@pytest.mark.slow
@pytest.mark.weekly  # each starts the SDK and a control plane anew
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_the_finding_can_still_be_reproduced(script: Path) -> None:
    # Unless a reproduction changes it, the SDK sends no reports.
    done = ended([sys.executable, script], ROOT, DO_NOT_TRACK="1")
    assert done.returncode == 0, (
        "it is fixed, or its reproduction is broken. If it is fixed, the table in"
        f" docs/sdk-findings.md says what to delete.\n{done.stdout}"
    )


def test_the_table_lists_each_script() -> None:
    rows = re.findall(r"^\| \[(\d+)\]\((\S+)\) \| (.+?) \|", PAGE, re.MULTILINE)
    assert [path for _, path, _ in rows] == [
        str(script.relative_to(ROOT / "docs")) for script in SCRIPTS
    ]
    for number, path, _ in rows:
        assert Path(path).name.startswith(f"f{number:0>2}_")
        assert (ast.get_docstring(ast.parse((ROOT / "docs" / path).read_text("utf-8"))) or "")[0]


def test_names_of_what_can_be_deleted_exist() -> None:
    files = [*(ROOT / PROJECT).glob("passthrough/**/*.py"), *(ROOT / PROJECT).glob("app/**/*.py")]
    code = "\n".join(path.read_text("utf-8") for path in files)
    last = [row.rpartition(" | ")[2] for row in PAGE.splitlines() if row.startswith("| [")]
    named = [name for cell in last for name in re.findall(r"`(.+?)`", cell)]
    assert len(named) > 10
    assert [name for name in named if name.split(".")[-1] not in code] == []
