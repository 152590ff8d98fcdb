"""GET /me: who the caller is."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from connectrpc.code import Code

from local_flyte import LocalFlyte, ReceivedCall

from .support import client_of


@pytest.mark.local_flyte
def test_me_is_the_caller_as_flyte_knows_them(alice: httpx.Client) -> None:
    assert alice.get("/me").json() == {
        "subject": "alice-subject",
        "name": "Alice Adams",
        "email": "alice@example.com",
        "anonymous": False,
    }


def test_two_callers_have_different_subjects(alice: httpx.Client, bob: httpx.Client) -> None:
    first, second = alice.get("/me").json(), bob.get("/me").json()
    assert first["subject"]
    assert second["subject"]
    assert first["subject"] != second["subject"]


@pytest.mark.local_flyte
@pytest.mark.parametrize(
    ("name", "may_view", "may_run"),
    [("alice", True, True), ("victor", True, False), ("carol", False, False)],
)
def test_rights_are_what_flyte_lets_the_caller_do(
    app_url: str, name: str, may_view: bool, may_run: bool, local_flyte: LocalFlyte
) -> None:
    with client_of(app_url, name) as client:
        told = client.get("/me/rights").json()
    assert (told["view"], told["run"]) == (may_view, may_run)
    assert (told["project"], told["domain"]) == (local_flyte.project, local_flyte.domain)


@pytest.mark.local_flyte
def test_asking_for_rights_changes_nothing(
    alice: httpx.Client, greeting: dict[str, Any], received: Callable[[], list[ReceivedCall]]
) -> None:
    assert alice.get("/me/rights").status_code == 200
    assert {call.method for call in received()} == {"ListTasks", "AbortRun"}
    assert alice.get(f"/runs/{greeting['name']}").json()["phase"] == "succeeded"


@pytest.mark.local_flyte
def test_rights_fail_when_flyte_is_unavailable(
    alice: httpx.Client, local_flyte: LocalFlyte
) -> None:
    local_flyte.fail_next("AbortRun", Code.UNAVAILABLE, times=10)
    assert alice.get("/me/rights").status_code == 503
    local_flyte.fail_next("AbortRun", Code.UNAVAILABLE, times=0)


@pytest.mark.local_flyte
def test_someone_whom_flyte_admits_but_does_not_know_is_told_so(
    alice: httpx.Client, expired: httpx.Client, local_flyte: LocalFlyte
) -> None:
    """As behind a proxy that has checked an opaque token, and does not say whose it is."""
    local_flyte.fail_next("UserInfo", Code.UNAUTHENTICATED, times=2)  # the SDK asks twice
    answer = alice.get("/me")
    assert answer.status_code == 200
    assert answer.json() == {"subject": None, "name": None, "email": None, "anonymous": False}
    assert expired.get("/me").status_code == 401
