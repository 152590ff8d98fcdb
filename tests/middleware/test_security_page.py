"""The security page names a test for each promise; this holds it to that."""

import re

import pytest

from .harness import TEMPLATE

PROJECT = TEMPLATE / "{{cookiecutter.project_slug}}"
PAGE = (PROJECT / "SECURITY.md").read_text("utf-8")
NAMED = re.findall(r"`(template: )?(tests/[\w/]+\.py)::(\w+)`", PAGE)


@pytest.mark.parametrize(("where", "file", "test"), NAMED, ids=[test for _, _, test in NAMED])
def test_a_named_test_exists(where: str, file: str, test: str) -> None:
    text = ((TEMPLATE if where else PROJECT) / file).read_text("utf-8")
    assert re.search(rf"^(async )?def {test}\(", text, re.MULTILINE)


def test_every_promise_names_a_test() -> None:
    table = PAGE.partition("| promise | held by |")[2].partition("\n\n")[0]
    promises = table.strip().splitlines()[1:]
    assert len(promises) >= 10
    assert [promise for promise in promises if "::test_" not in promise] == []
