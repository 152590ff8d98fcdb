"""A short form of ``benchmarks/isolation.py``; see CONTRIBUTING.md for the long one."""

import sys
from pathlib import Path

import pytest

from .baking import run

# Without load, callers are kept apart in each suite.
pytestmark = [pytest.mark.slow, pytest.mark.weekly]

ROOT = Path(__file__).parents[1]


def test_callers_are_kept_apart_under_load() -> None:
    command = [sys.executable, "benchmarks/isolation.py", "--only-ours", "--details"]
    printed = run([*command, "--people", "100", "--at-once", "40", "--requests", "600"], ROOT)
    assert printed.endswith("ours: no errors\n"), printed
