"""Test of the app behind Envoy, as on Knative."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import yaml
from fastapi import FastAPI
from template import ROOT

from benchmarks.envoy import in_front_of
from local_flyte.apps import free_port
from local_flyte.testing import serving

from .baking import PROJECT, run
from .walkthrough import code_blocks

pytestmark = pytest.mark.weekly
PAGE = ROOT / PROJECT / "docs/deploying.md"


def test_connection_attacks_do_not_affect_other_clients() -> None:
    """The benchmark fails if a request of another client fails."""
    assert "leaving" in run([sys.executable, "benchmarks/attacks.py"], ROOT)


def test_documented_retries_hide_a_stopped_replica(tmp_path: Path) -> None:
    route, cluster = map(yaml.safe_load, code_blocks(PAGE, "Reverse proxy", "yaml"))
    app = FastAPI()
    with serving(app) as url:
        replicas = httpx.URL(url).port or 0, free_port()  # nothing listens on the second port
        with (
            in_front_of(tmp_path, *replicas, route=route, cluster=cluster) as port,
            httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
            ThreadPoolExecutor(10) as threads,
        ):
            paths = ["/openapi.json"] * 200
            statuses = {response.status_code for response in threads.map(client.get, paths)}
    assert statuses == {200}
