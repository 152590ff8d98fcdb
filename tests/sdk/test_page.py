"""docs/sdk-findings.md and the reproductions name each other."""

import re
from pathlib import Path

from . import test_findings

PAGE = Path(__file__).parents[2] / "docs" / "sdk-findings.md"


def test_the_page_names_every_reproduction_and_no_other() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE.read_text("utf-8")))
    assert named == {name for name in vars(test_findings) if name.startswith("test_")}
