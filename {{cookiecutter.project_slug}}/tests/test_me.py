"""GET /me: who the caller is."""

import httpx
import pytest


@pytest.mark.local_flyte
def test_me_is_the_caller_as_flyte_knows_them(alice: httpx.Client) -> None:
    assert alice.get("/me").json() == {
        "subject": "alice-subject",
        "name": "Alice Adams",
        "email": "alice@example.com",
        "anonymous": False,
    }


def test_two_people_are_two(alice: httpx.Client, bob: httpx.Client) -> None:
    first, second = alice.get("/me").json(), bob.get("/me").json()
    assert first["subject"]
    assert second["subject"]
    assert first["subject"] != second["subject"]
