"""Tests of the sample tasks in app/tasks.py. Delete this file together with the tasks."""

import asyncio
from pathlib import Path

import pytest
from flyte import remote

from app.tasks import chart, count, greet, words
from local_flyte.testing import acting_as, ended, start


def test_greet_returns_greeting() -> None:
    assert asyncio.run(greet("Ada")) == "Hello, Ada."
    assert asyncio.run(greet("Ada", excited=True)) == "Hello, Ada!"


def test_count_returns_sum_and_rejects_zero() -> None:
    assert asyncio.run(count(1)) == 1
    with pytest.raises(ValueError, match="cannot count to 0"):
        asyncio.run(count(0))


def test_words_counts_words_of_file(url: str, tmp_path: Path, app_tasks: None) -> None:
    file = tmp_path / "text"
    file.write_text("one two\nthree\n", "utf-8")
    with acting_as("alice"):
        _, uri = remote.upload_file(file)
        run = remote.Run.get(ended(start(words.name, text=uri)))
        assert run.outputs()[0] == 3


def test_chart_returns_sum_of_values() -> None:
    assert asyncio.run(chart()) == 16
