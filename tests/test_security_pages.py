"""The security pages, ours and the project's, name a test for each promise."""

import re
from pathlib import Path

import pytest
from template import ROOT

PROJECT = ROOT / "{{cookiecutter.project_slug}}"
NAMED = [
    (folder, *named)
    for folder in (ROOT, PROJECT)
    for named in re.findall(
        r"`(tests/[\w/]+\.py)::(\w+)`", (folder / "SECURITY.md").read_text("utf-8")
    )
]


@pytest.mark.parametrize(("folder", "file", "test"), NAMED, ids=[test for *_, test in NAMED])
def test_a_named_test_exists(folder: Path, file: str, test: str) -> None:
    text = (folder / file).read_text("utf-8")
    assert re.search(rf"^(async )?def {test}\(", text, re.MULTILINE)


@pytest.mark.parametrize("folder", [ROOT, PROJECT], ids=["template", "project"])
def test_every_promise_names_a_test(folder: Path) -> None:
    page = (folder / "SECURITY.md").read_text("utf-8")
    table = page.partition("| promise | held by |")[2].partition("\n\n")[0]
    promises = table.strip().splitlines()[1:]
    assert len(promises) >= 10
    assert [promise for promise in promises if "::test_" not in promise] == []
