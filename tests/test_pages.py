"""Tests of pages: links, generated tables, and test names in tables of guarantees."""

import re
from pathlib import Path

import pages
import pytest
from template import ROOT

from .baking import PROJECT, QUESTIONS

GUARANTEES = [
    (folder, line)
    for folder in (ROOT, ROOT / PROJECT)
    for table in (folder / "SECURITY.md").read_text("utf-8").split("|---|---|\n")[1:]
    for line in table.split("\n\n")[0].splitlines()
]


@pytest.mark.parametrize(("folder", "line"), GUARANTEES, ids=[line[2:40] for _, line in GUARANTEES])
def test_guarantee_refers_to_existing_tests_and_identifiers(folder: Path, line: str) -> None:
    _, guarantee, tested_by, _ = line.split("|")
    named = re.findall(r"`((?:tests|local_flyte)/\S+)::(test_\w+)`", tested_by)
    assert named
    for file, test in named:
        assert re.search(rf"^(async )?def {test}\(", (folder / file).read_text("utf-8"), re.M), test
    text = "".join((folder / file).read_text("utf-8") for file, _ in named)
    assert [name for name in re.findall(r"`(.+?)`", guarantee) if name not in text] == []


def test_tables_of_pages_are_current() -> None:
    tables = []
    for path in pages.PAGES:
        page = (ROOT / path).read_text("utf-8")
        assert page == pages.written(page), f"{path}: run python tools/pages.py"
        tables += [name for _, name, _ in pages.TABLE.findall(page)]
    assert sorted(tables) == sorted(pages.TABLES)


def headings(page: Path) -> set[str]:
    """Return the anchors of a page as GitHub names them, without numbers of repeated headings."""
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_links_between_pages_are_valid(default_project: Path) -> None:
    ours = [page for folder in ("", "docs/", "benchmarks/") for page in ROOT.glob(f"{folder}*.md")]
    for page in [*ours, *default_project.rglob("*.md")]:
        links = re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", page.read_text("utf-8"))
        for target, anchor in links:
            path = page.parent / target if target else page
            assert path.exists(), f"{page.name}: {target}"
            assert not anchor or anchor in headings(path), f"{page.name}: {target}#{anchor}"


def test_readme_lists_all_template_questions() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    for key, value in QUESTIONS.items():
        default = value[0] if isinstance(value, list) else value
        assert f"`{key}`" in readme
        assert default in readme or key in {"description", "author"}, key
