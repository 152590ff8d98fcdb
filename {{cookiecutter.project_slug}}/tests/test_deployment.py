"""A real ``flyte deploy``: the deployed app runs, and serves its callers."""

import re

import httpx
import pytest

from local_flyte import PEOPLE, LocalFlyte

from .support import ROOT, offers


@pytest.mark.deploys
def test_the_deployed_app_has_its_files_and_serves_its_callers(
    local_flyte: LocalFlyte, deployed_app: str
) -> None:
    url = local_flyte.wait_app(deployed_app)
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
        assert client.get("/health").status_code == 200
        page = client.get("/")
        # Without a page, the documentation is shown.
        assert page.status_code == (200 if (ROOT / "app" / "page").is_dir() else 307)
        for path in re.findall(r'(?:src|href)="(page/[^"]+)"', page.text):
            assert client.get(f"/{path}").status_code == 200, path
        for name in ("alice", "bob") if offers("/me") else ():
            headers = {"Authorization": f"Bearer {PEOPLE[name].token}"}
            assert client.get("/me", headers=headers).json()["subject"] == PEOPLE[name].subject
        assert client.get("/me").status_code == 401
