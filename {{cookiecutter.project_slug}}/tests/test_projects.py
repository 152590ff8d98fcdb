"""GET /projects: what projects there are."""

import httpx


def test_projects_name_their_domains(alice: httpx.Client) -> None:
    projects = alice.get("/projects").json()
    assert projects
    assert all(project["id"] and project["domains"] for project in projects)
