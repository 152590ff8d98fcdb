"""The page's files, and a project that was generated without the page."""

from pathlib import Path

import pytest

from .baking import BIN, Baker, run

pytestmark = pytest.mark.slow

ASK = """
import asyncio, sys, httpx
from app.main import app
from deployment import app_env
async def ask():
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
        for path in sys.argv[1:]:
            for headers in ({}, {"Authorization": "Bearer any"}):
                response = await client.get(path, headers=headers)
                print(path, response.status_code, response.headers.get("Location", ""))
asyncio.run(ask())
print("deployed", app_env.include)
"""


def ask(project: Path, *paths: str) -> list[str]:
    """Ask for each path as nobody and as somebody; return the answers, and what is deployed."""
    return run([BIN / "python", "-c", ASK, *paths], project, ACCESS_LOG="off").splitlines()


def test_without_a_page_the_root_leads_to_the_documentation(baker: Baker, tmp_path: Path) -> None:
    """With other answers that the app and its deployment contain."""
    answers = {"project_slug": "a", "credential_headers": "X-Api-Key, X-Tenant"}
    hostile = 'It\'s "hostile" \\n 🚀 <b>'
    project = baker(tmp_path, page="no", description=hostile, **answers)
    assert ask(project, "/")[:2] == ["/ 307 docs"] * 2
    (project / "app" / "page").mkdir()
    (project / "app" / "page" / "logo.svg").write_text("<svg></svg>\n")
    *told, deployed = ask(project, "/", "/page/logo.svg")
    assert told == ["/ 307 docs"] * 2 + ["/page/logo.svg 200 "] * 2
    assert "logo.svg" in deployed
