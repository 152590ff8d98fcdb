"""How many runs are executed at a time."""

import os

import pytest

from local_flyte import LocalFlyte

from ..conformance.client import Flyte, Person, phase_of


@pytest.mark.slow
def test_runs_that_wait_keep_no_others_from_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)  # so two runs are executed at a time
    with LocalFlyte() as local:
        flyte = Flyte(local.config_file(), "union", {}, {"HOME": str(local.home)})
        alice = Person(flyte, local.token("alice"))
        for _ in range(2):
            asks = alice.start("asks", kind="bool", seconds=0.0)
            flyte.until(lambda: len(alice.actions(asks)) == 2)  # noqa: B023
        for _ in range(2):
            alice.until("RUNNING", alice.start("endless"))
        assert phase_of(alice.action(alice.start("endless"))) == "QUEUED"
