"""GET /projects: what projects there are."""

import httpx
import pytest

from app.settings import Settings


def test_projects_name_their_domains(alice: httpx.Client, settings: Settings) -> None:
    projects = {each["id"]: each["domains"] for each in alice.get("/projects").json()}
    assert settings.flyte_domain in projects[settings.flyte_project]


@pytest.mark.authorization
def test_who_has_no_rights_on_a_project_does_not_see_it(carol: httpx.Client) -> None:
    assert carol.get("/projects").json() == []
