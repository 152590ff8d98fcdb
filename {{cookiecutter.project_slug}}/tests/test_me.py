"""Tests of GET /me and GET /projects."""

import httpx
import pytest
from flyte import remote

from app.settings import Settings
from local_flyte import Code, LocalFlyte
from local_flyte.testing import acting_as


def test_me_returns_identity_of_caller(alice: httpx.Client) -> None:
    with acting_as("alice"):
        user = remote.User.get()
    assert user.subject()
    assert alice.get("/me").json() == {
        "subject": user.subject(),
        "name": user.name() or None,
        "email": user.pb2.email or None,
        "anonymous": False,
        "sign_in": None,
        "sign_out": None,
    }


@pytest.mark.steers_flyte
def test_me_without_identity_has_no_subject(
    alice: httpx.Client, expired: httpx.Client, local_flyte: LocalFlyte
) -> None:
    """This happens behind a proxy that verifies an opaque token, but forwards no identity."""
    local_flyte.fail_next("UserInfo", Code.UNAUTHENTICATED)
    response = alice.get("/me")
    assert response.status_code == 200
    assert (response.json()["subject"], response.json()["anonymous"]) == (None, False)
    assert expired.get("/me").status_code == 401


def test_list_projects_returns_domains(alice: httpx.Client, settings: Settings) -> None:
    projects = {project["id"]: project["domains"] for project in alice.get("/projects").json()}
    assert settings.flyte_domain in projects[settings.flyte_project]
