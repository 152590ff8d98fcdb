"""A project that was generated without the page."""

from pathlib import Path

import pytest

from .baking import Baker, run

ASK = """
import asyncio, httpx
from app.main import app
async def ask():
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
        response = await client.get("/")
        print(response.status_code, response.headers["Location"])
asyncio.run(ask())
"""


@pytest.mark.slow
def test_its_root_leads_to_the_documentation(
    baker: Baker, environment: Path, tmp_path: Path
) -> None:
    project = baker(tmp_path, page="no")
    assert not (project / "app" / "page").exists()
    python = environment / "bin" / "python"
    assert run([python, "-c", ASK], project, ACCESS_LOG="off").split() == ["307", "docs"]
