"""The page's files, and a project that was generated without the page."""

from pathlib import Path

import pytest

from .baking import Baker, run

pytestmark = pytest.mark.slow

ASK = """
import asyncio, sys, httpx
from app.main import app
async def ask():
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
        for path in sys.argv[1:]:
            for headers in ({}, {"Authorization": "Bearer any"}):
                response = await client.get(path, headers=headers)
                print(path, response.status_code, response.headers.get("Location", ""))
asyncio.run(ask())
"""
PUBLIC = (
    "from app.main import PUBLIC; from deployment import app_env; print(PUBLIC, app_env.include)"
)


def test_without_a_page_the_root_leads_to_the_documentation(
    baker: Baker, environment: Path, tmp_path: Path
) -> None:
    project = baker(tmp_path, page="no")
    assert not (project / "app" / "page").exists()
    python = environment / "bin" / "python"
    assert "/ 307 docs" in run([python, "-c", ASK, "/"], project, ACCESS_LOG="off")


def test_only_files_of_known_kinds_that_git_does_not_ignore_are_served_and_deployed(
    baker: Baker, environment: Path, tmp_path: Path
) -> None:
    project = baker(tmp_path)
    private = [".env", ".main.js.swp", "main.js~", "main.js.orig", ".old.js", "a.py", "mine.js"]
    for name in ("extra.js", *private):
        (project / "app" / "page" / name).write_text("const key = 1;\n")
    (project / ".gitignore").write_text("mine.js\n")
    run(["git", "init", "--quiet"], project)
    python = environment / "bin" / "python"
    paths = ["/page/extra.js", *(f"/page/{name}" for name in private)]
    served, *refused = run([python, "-c", ASK, *paths], project, ACCESS_LOG="off").split("\n/")
    assert served == "/page/extra.js 200 "
    assert [line.split()[1] for line in refused] == ["200", *("401", "404") * len(private)]
    public = run([python, "-c", PUBLIC], project)
    assert "extra.js" in public
    assert not [name for name in private if name in public]
    # A repository around the project ignores all of it, as the template's does with its demo.
    (project / ".git").rename(tmp_path / ".git")
    (tmp_path / ".gitignore").write_text("*\n")
    assert "extra.js" in run([python, "-c", PUBLIC], project)
