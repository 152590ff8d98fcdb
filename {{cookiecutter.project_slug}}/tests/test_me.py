"""GET /me: who the caller is."""

import httpx
import pytest
from flyte import remote

from local_flyte import Code, LocalFlyte

from .support import calling_as


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
    first, second = (client.get("/me").json()["subject"] for client in (alice, bob))
    assert None not in {first, second}
    assert first != second


@pytest.mark.steers_flyte
def test_someone_whom_flyte_admits_but_does_not_know_is_told_so(
    alice: httpx.Client, expired: httpx.Client, local_flyte: LocalFlyte
) -> None:
    """This happens behind a proxy that checks an opaque token but does not pass on its owner."""
    local_flyte.fail_next("UserInfo", Code.UNAUTHENTICATED)
    answer = alice.get("/me")
    assert answer.status_code == 200
    assert answer.json() == {"subject": None, "name": None, "email": None, "anonymous": False}
    assert expired.get("/me").status_code == 401
