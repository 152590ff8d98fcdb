"""The page's files, and a project that was generated without the page."""

from pathlib import Path

import pytest

from .baking import BIN, Baker, run

pytestmark = pytest.mark.slow

ASK = """
import asyncio, sys, httpx
from app.main import PUBLIC, app
from deployment import app_env
async def ask():
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
        for path in sys.argv[1:]:
            for headers in ({}, {"Authorization": "Bearer any"}):
                response = await client.get(path, headers=headers)
                print(path, response.status_code, response.headers.get("Location", ""))
asyncio.run(ask())
print("public", PUBLIC, app_env.include)
"""


def ask(project: Path, *paths: str) -> list[str]:
    """Ask for each path as nobody and as somebody; return the answers, and what is public."""
    return run([BIN / "python", "-c", ASK, *paths], project, ACCESS_LOG="off").splitlines()


def test_without_a_page_the_root_leads_to_the_documentation(baker: Baker, tmp_path: Path) -> None:
    """With other answers that the app and its deployment contain."""
    answers = {"project_slug": "a", "credential_headers": "X-Api-Key, X-Tenant"}
    hostile = 'It\'s "hostile" \\n 🚀 <b>'
    project = baker(tmp_path, page="no", description=hostile, **answers)
    assert ask(project, "/")[:2] == ["/ 307 docs"] * 2


def test_only_files_of_known_kinds_that_git_does_not_ignore_are_served_and_deployed(
    baker: Baker, tmp_path: Path
) -> None:
    project = baker(tmp_path)
    private = [".env", ".main.js.swp", "main.js~", "main.js.orig", ".old.js", "a.py", "mine.js"]
    for name in ("extra.js", *private):
        (project / "app" / "page" / name).write_text("const key = 1;\n")
    (project / ".gitignore").write_text("mine.js\n")
    run(["git", "init", "--quiet"], project)
    *answers, public = ask(project, *(f"/page/{name}" for name in ("extra.js", *private)))
    assert [line.split()[1] for line in answers] == ["200", "200", *("401", "404") * len(private)]
    assert public.count("extra.js") == 2
    assert not [name for name in private if name in public]
    # A repository around the project ignores all of it, as the template's does with its demo.
    (project / ".git").rename(tmp_path / ".git")
    (tmp_path / ".gitignore").write_text("*\n")
    assert ask(project)[-1].count("extra.js") == 2
