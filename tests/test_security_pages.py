"""Both security pages, ours and the project's, name a test for each promise."""

import re
from pathlib import Path

import pytest
from template import ROOT

PROJECT = ROOT / "{{cookiecutter.project_slug}}"
PAGES = {folder: (folder / "SECURITY.md").read_text("utf-8") for folder in (ROOT, PROJECT)}
NAMED = [
    (folder, *named.partition("::")[::2])
    for folder, page in PAGES.items()
    for named in re.findall(r"`((?:tests|local_flyte)/[^`]+::[^`]+)`", page)
]
PROMISES = [
    (folder, line)
    for folder, page in PAGES.items()
    for table in page.split("| promise | tested by |\n|---|---|\n")[1:]
    for line in table.split("\n\n")[0].splitlines()
]


@pytest.mark.parametrize(("folder", "file", "test"), NAMED, ids=[test for *_, test in NAMED])
def test_a_named_test_exists(folder: Path, file: str, test: str) -> None:
    text = (folder / file).read_text("utf-8")
    assert re.search(rf"^(async )?def {test}\(", text, re.MULTILINE)


@pytest.mark.parametrize(("folder", "line"), PROMISES, ids=[line[2:40] for _, line in PROMISES])
def test_a_promise_names_a_test_and_only_names_that_occur_in_its_file(
    folder: Path, line: str
) -> None:
    _, promise, tested_by, _ = line.split("|")
    files = re.findall(r"`((?:tests|local_flyte)/\S+)::test_\w+`", tested_by)
    assert files
    text = "".join((folder / file).read_text("utf-8") for file in files)
    assert [name for name in re.findall(r"`(.+?)`", promise) if name not in text] == []
