"""Sources of the caller's credentials besides Authorization and Cookie."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from fastapi import APIRouter
from flyte import remote
from starlette.requests import HTTPConnection

from local_flyte import PEOPLE, LocalFlyte, ReceivedCall
from local_flyte.testing import bearer, client_of, serving
from passthrough.requests.credentials import credential_extractors
from passthrough.settings import Settings

from .support import build_app

router = APIRouter()
HEADER = "X-Forwarded-Access-Token"
BOB = PEOPLE["bob"].token


@router.get("/me")
async def me() -> str:
    return (await remote.User.get.aio()).subject() or ""


@pytest.fixture(scope="module")
def proxied(local_flyte: LocalFlyte) -> Iterator[httpx.Client]:
    """A client of an app that trusts a proxy's header."""
    with serving(build_app(router, token_header=HEADER)) as url, client_of(url, None) as client:
        yield client


def test_the_token_that_a_proxy_passes_on_is_used(
    proxied: httpx.Client, received: Callable[[], list[ReceivedCall]]
) -> None:
    # A proxy may put another token in Authorization: oauth2-proxy can send the ID token there.
    headers = {HEADER: BOB, "Authorization": bearer("alice")}
    assert proxied.get("/me", headers=headers).json() == PEOPLE["bob"].subject
    assert {call.headers["authorization"] for call in received()} == {bearer("bob")}
    assert not any(HEADER.lower() in call.headers for call in received())


@pytest.mark.parametrize("values", [[], [""]])
def test_without_the_proxys_header_authorization_is_ignored(
    proxied: httpx.Client, values: list[str]
) -> None:
    headers = [("Authorization", bearer("alice")), *((HEADER, value) for value in values)]
    assert proxied.get("/me", headers=headers).status_code == 401


@pytest.mark.parametrize("values", [["one", "two"], ["one, two"]])
@pytest.mark.parametrize(
    "other", [("Authorization", bearer("alice")), ("Cookie", PEOPLE["alice"].cookie)]
)
def test_two_different_tokens_are_refused(
    proxied: httpx.Client, values: list[str], other: tuple[str, str]
) -> None:
    refused = proxied.get("/me", headers=[other, *((HEADER, value) for value in values)])
    assert refused.status_code == 400
    assert refused.headers["Content-Type"] == "application/problem+json"


def test_a_page_of_another_site_cannot_use_the_proxys_header(proxied: httpx.Client) -> None:
    sent = {"Sec-Fetch-Site": "cross-site", "Origin": "https://elsewhere.example", HEADER: BOB}
    assert proxied.post("/me", headers=sent).status_code == 403


def test_by_default_no_proxy_is_trusted(url: str) -> None:
    with client_of(url, None) as client:
        assert client.get("/me", headers={HEADER: BOB}).status_code == 401


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {"cookie": "flyte_at=one", "authorization": "Bearer two"}),
        (
            {"credential_headers": ("x-key", "x-none")},
            {"cookie": "flyte_at=one", "authorization": "Bearer two", "x-key": "three"},
        ),
        (
            {"token_header": "x-token"},
            {"cookie": "flyte_at=one", "authorization": "Bearer four\n five"},
        ),
        ({"token_header": "x-none"}, {"cookie": "flyte_at=one"}),
        (
            {"flyte_plaintext": True},
            {"cookie": "flyte_at=one", "authorization": "Bearer two", "x-flyte-caller": "nobody"},
        ),
    ],
)
def test_the_settings_decide_where_credentials_come_from(
    settings: dict[str, Any], expected: dict[str, str]
) -> None:
    headers = [
        (b"cookie", b"flyte_at=one"),
        (b"authorization", b"Bearer two"),
        (b"x-key", b"three"),
        (b"x-token", b" four, five"),
        (b"x-token", b""),
    ]
    request = HTTPConnection({"type": "http", "headers": headers})
    extractors = credential_extractors(Settings.model_construct(**settings))
    found = [extract(request) for extract in extractors]
    assert dict(pair for pair in found if isinstance(pair, tuple)) == expected
