"""Random pairs of types and values, against the SDK's own encoding in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import passthrough

from .support import environment

TEMPLATE = Path(__file__).parents[2]


@pytest.mark.parametrize("pairs", [300, pytest.param(20_000, marks=pytest.mark.weekly)])
def test_a_task_reads_random_values_as_if_the_sdk_had_sent_them(pairs: int) -> None:
    project = Path(passthrough.__file__).parents[1]
    ran = subprocess.run(
        [sys.executable, "-m", "tests.passthrough.value_pairs", str(pairs)],
        cwd=TEMPLATE,
        env=environment({"PYTHONPATH": str(project)}),
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(ran.stdout)
    assert found["different"] == [], f"with seed {found['seed']}"
    assert found["equal"] > 0.95 * pairs, found
