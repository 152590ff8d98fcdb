"""Tests of the app after ``flyte deploy`` to the local Flyte server."""

import re
from pathlib import Path

import pytest

from local_flyte import PEOPLE, LocalFlyte
from local_flyte.testing import client_of


@pytest.mark.deploys
def test_deployed_app_serves_callers(local_flyte: LocalFlyte, deployed_app: str) -> None:
    url = local_flyte.wait_app(deployed_app)
    with client_of(url, None) as client:
        assert client.get("/health").status_code == 200
        page = client.get("/")
        # Without the web UI, / redirects to the API documentation.
        has_page = Path(__file__).parents[1].joinpath("app", "page", "index.html").exists()
        assert page.status_code == (200 if has_page else 307)
        for path in re.findall(r'(?:src|href)="(page/[^"]+)"', page.text):
            assert client.get(f"/{path}").status_code == 200, path
        assert client.get("/me").status_code == 401
    for name in ("alice", "bob"):
        with client_of(url, name) as client:
            me = client.get("/me")
            assert me.status_code == 404 or me.json()["subject"] == PEOPLE[name].subject
