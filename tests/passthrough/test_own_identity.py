"""Calling Flyte as the application that an API key belongs to."""

from base64 import b64encode
from collections.abc import Callable, Iterator

import httpx
import pytest
from fastapi import APIRouter
from flyte import remote

from local_flyte import LocalFlyte, ReceivedCall
from passthrough.own_identity import EARLY, OwnIdentity

from .support import bearer, build_app, client_of, serving

router = APIRouter()
robots: dict[str, OwnIdentity] = {}


@router.get("/robot/{name}")
async def robot(name: str) -> dict[str, str]:
    async with robots[name].acting():
        own = (await remote.User.get.aio()).subject()
    return {"own": own, "callers": (await remote.User.get.aio()).subject()}


@pytest.fixture(autouse=True)
def _robots(local_flyte: LocalFlyte) -> Iterator[None]:
    local_flyte.add_person("robot")
    robots["good"] = OwnIdentity(local_flyte.api_key("robot"))
    yield
    robots.clear()


def key(*parts: object) -> str:
    return b64encode(":".join(map(str, parts)).encode()).decode()


def test_inside_the_block_the_app_acts_as_itself_and_outside_as_its_caller(
    alice: httpx.Client, bob: httpx.Client
) -> None:
    for client, subject in (
        (alice, "alice-subject"),
        (bob, "bob-subject"),
        (alice, "alice-subject"),
    ):
        assert client.get("/robot/good").json() == {"own": "robot-subject", "callers": subject}


def test_the_key_is_exchanged_once_for_as_long_as_the_token_lasts(
    alice: httpx.Client,
    received: Callable[[], list[ReceivedCall]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def exchanges() -> int:
        return [call.service for call in received()].count("oauth2")

    for _ in range(3):
        assert alice.get("/robot/good").is_success
    assert exchanges() == 1
    robots["good"]._ends -= 3600 - EARLY  # as if an hour had passed, but for a minute
    assert alice.get("/robot/good").is_success
    assert exchanges() == 2
    assert not any(
        call.headers.get("authorization") == bearer("alice")
        for call in received()
        if call.service in {"oauth2", "flyteidl2.auth.AuthMetadataService"}
    )


def test_a_key_that_flyte_refuses_is_told_to_nobody(
    alice: httpx.Client, local_flyte: LocalFlyte, caplog: pytest.LogCaptureFixture
) -> None:
    host = local_flyte.url.removeprefix("https://")
    robots["refused"] = OwnIdentity(key(host, "robot", "a-secret-of-yesterday", "local"))
    answer = alice.get("/robot/refused")
    assert answer.status_code == 502
    assert "has refused the API key: 401" in caplog.text
    assert "a-secret-of-yesterday" not in answer.text + caplog.text


def test_a_key_for_another_flyte_is_sent_nowhere(
    alice: httpx.Client,
    received: Callable[[], list[ReceivedCall]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    robots["other"] = OwnIdentity(key("flyte.example.com", "robot", "secret", "local"))
    assert alice.get("/robot/other").status_code == 502
    assert "another Flyte" in caplog.text
    assert received() == []


@pytest.mark.parametrize("wrong", ["", "no key", key("host", "client", "secret")])
def test_what_is_no_key_is_refused_without_being_quoted(wrong: str) -> None:
    with pytest.raises(ValueError, match="not an API key of Flyte's"):
        OwnIdentity(wrong)


def test_where_flyte_is_plaintext_no_key_is_sent(local_flyte: LocalFlyte) -> None:
    app = build_app(
        router, flyte_endpoint="http://127.0.0.1:1", flyte_plaintext=True, allow_anonymous=True
    )
    robots["plain"] = OwnIdentity(key("127.0.0.1:1", "robot", "secret", "local"))
    with serving(app) as url, client_of(url, "alice") as alice:
        assert alice.get("/robot/plain").status_code == 502
