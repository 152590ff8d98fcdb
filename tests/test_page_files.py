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
            if path.endswith("late.js"):
                open(f"app{path}", "w").close()
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


def test_only_files_of_known_kinds_that_are_neither_hidden_nor_links_are_served_and_deployed(
    baker: Baker, tmp_path: Path
) -> None:
    project = baker(tmp_path)
    page = project / "app" / "page"
    private = [".env", ".main.js.swp", "main.js~", "main.js.orig", ".old.js", "a.py", "folder.js"]
    (page / "folder.js").mkdir()
    for name in ("extra.js", *private[:-1], "folder.js/inner.js", "../secret.js"):
        (page / name).write_text("const key = 1;\n")
    (page / "linked.js").symlink_to(project / "app" / "secret.js")
    private += ["linked.js", "none.js"]
    paths = [*private, "..%2fsecret.js", "%2e%2e/secret.js", "folder.js/inner.js", ".git/x.js"]
    asked = ("extra.js", "late.js", *paths)
    *answers, deployed = ask(project, *(f"/page/{name}" for name in asked))
    served, rest = answers[:4], [line.split()[1] for line in answers[4:]]
    assert [line.split()[1] for line in served] == ["200"] * 4
    assert set(rest[0::2]) == {"404", "401"}
    assert set(rest[1::2]) == {"404"}
    assert "extra.js" in deployed
    assert not [name for name in (*private, "inner.js", "secret.js") if name in deployed]
