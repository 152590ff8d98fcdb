"""Test of the app behind Envoy, as on Knative."""

import sys

import pytest
from template import ROOT

from .baking import run

pytestmark = pytest.mark.weekly


def test_connection_attacks_do_not_affect_other_clients() -> None:
    """The benchmark fails if a request of another client fails."""
    assert "leaving" in run([sys.executable, "benchmarks/attacks.py"], ROOT)
