"""The sample tasks in app/tasks.py. Delete this file together with them."""

import asyncio
from pathlib import Path

import pytest
from flyte.io import File

from app.tasks import chart, count, greet, words


def test_greet() -> None:
    assert asyncio.run(greet("Ada")) == "Hello, Ada."
    assert asyncio.run(greet("Ada", excited=True)) == "Hello, Ada!"


def test_count() -> None:
    assert asyncio.run(count(1)) == 1
    with pytest.raises(ValueError, match="cannot count to 0"):
        asyncio.run(count(0))


def test_words(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("one two\nthree\n", "utf-8")
    assert asyncio.run(words(File(path=str(tmp_path / "text")))) == 3


def test_chart() -> None:
    assert asyncio.run(chart()) == 16
