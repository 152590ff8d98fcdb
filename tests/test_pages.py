"""Tables of pages are what ``tools/pages.py`` makes of the code."""

import pages
import pytest
from template import ROOT

from .baking import PROJECT


@pytest.mark.parametrize("name", pages.TABLES)
def test_a_table_is_as_it_would_be_made_now(name: str) -> None:
    page = (ROOT / PROJECT / "docs" / name).read_text("utf-8")
    assert page == pages.written(page, pages.TABLES[name]()), "run tools/pages.py"


def test_each_setting_says_what_it_means() -> None:
    rows = [row.split(" | ") for row in pages.settings().splitlines()[2:]]
    assert len(rows) > 15
    assert all(len(meaning) > 10 for _, meaning, _ in rows)
