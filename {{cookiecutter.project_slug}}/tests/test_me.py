"""GET /me: who the caller is."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from connectrpc.code import Code
from flyte import remote

from app.settings import load_settings
from local_flyte import LocalFlyte, ReceivedCall

from .support import calling_as, client_of


def test_me_is_the_caller_as_flyte_knows_them(alice: httpx.Client) -> None:
    with calling_as(alice):
        known = remote.User.get()
    assert known.subject()
    assert alice.get("/me").json() == {
        "subject": known.subject(),
        "name": known.name() or None,
        "email": known.pb2.email or None,
        "anonymous": False,
    }


def test_two_callers_have_different_subjects(alice: httpx.Client, bob: httpx.Client) -> None:
    first, second = alice.get("/me").json(), bob.get("/me").json()
    assert first["subject"]
    assert second["subject"]
    assert first["subject"] != second["subject"]


@pytest.mark.parametrize(
    ("name", "may_view", "may_run"),
    [
        ("alice", True, True),
        pytest.param("victor", True, False, marks=pytest.mark.authorization),
        pytest.param("carol", False, False, marks=pytest.mark.authorization),
    ],
)
def test_rights_are_what_flyte_lets_the_caller_do(
    app_url: str, name: str, may_view: bool, may_run: bool
) -> None:
    with client_of(app_url, name) as client:
        told = client.get("/me/rights").json()
    assert (told["view"], told["run"]) == (may_view, may_run)
    settings = load_settings()
    assert (told["project"], told["domain"]) == (settings.flyte_project, settings.flyte_domain)


@pytest.mark.reads_what_flyte_received
def test_asking_for_rights_changes_nothing(
    alice: httpx.Client, greeting: dict[str, Any], received: Callable[[], list[ReceivedCall]]
) -> None:
    assert alice.get("/me/rights").status_code == 200
    assert {call.method for call in received()} == {"ListTasks", "AbortRun"}
    assert alice.get(f"/runs/{greeting['name']}").json()["phase"] == "succeeded"


@pytest.mark.steers_flyte
def test_rights_fail_when_flyte_is_unavailable(
    alice: httpx.Client, local_flyte: LocalFlyte
) -> None:
    local_flyte.fail_next("AbortRun", Code.UNAVAILABLE, times=10)
    assert alice.get("/me/rights").status_code == 503
    local_flyte.fail_next("AbortRun", Code.UNAVAILABLE, times=0)


@pytest.mark.steers_flyte
def test_someone_whom_flyte_admits_but_does_not_know_is_told_so(
    alice: httpx.Client, expired: httpx.Client, local_flyte: LocalFlyte
) -> None:
    """As behind a proxy that has checked an opaque token, and does not say whose it is."""
    local_flyte.fail_next("UserInfo", Code.UNAUTHENTICATED, times=2)  # the SDK asks twice
    answer = alice.get("/me")
    assert answer.status_code == 200
    assert answer.json() == {"subject": None, "name": None, "email": None, "anonymous": False}
    assert expired.get("/me").status_code == 401
