"""GET /projects: the list of projects."""

import httpx

from app.settings import Settings


def test_projects_have_their_domains(alice: httpx.Client, settings: Settings) -> None:
    projects = {each["id"]: each["domains"] for each in alice.get("/projects").json()}
    assert settings.flyte_domain in projects[settings.flyte_project]
