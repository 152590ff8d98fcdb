"""Sources of the caller's credentials besides Authorization and Cookie."""

import logging
from collections.abc import Callable, Iterator

import httpx
import pytest
from fastapi import APIRouter
from flyte import remote

from local_flyte import PEOPLE, LocalFlyte, ReceivedCall
from passthrough.calls.errors import LONGEST_RECORD, quotes, secrets_in

from .support import bearer, build_app, client_of, serving

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


def test_two_equal_tokens_count_as_one(proxied: httpx.Client) -> None:
    assert proxied.get("/me", headers=[(HEADER, BOB)] * 2).json() == PEOPLE["bob"].subject


def test_a_page_of_another_site_cannot_use_the_proxys_header(proxied: httpx.Client) -> None:
    sent = {"Sec-Fetch-Site": "cross-site", "Origin": "https://elsewhere.example", HEADER: BOB}
    assert proxied.post("/me", headers=sent).status_code == 403


def test_by_default_no_proxy_is_trusted(url: str) -> None:
    with client_of(url, None) as client:
        assert client.get("/me", headers={HEADER: BOB}).status_code == 401


def test_two_sign_in_cookies_that_differ_are_refused(url: str) -> None:
    with client_of(url, None) as client:
        refused = client.get("/me", headers={"Cookie": "flyte_at=one; flyte_at=two"})
    assert refused.status_code == 400
    assert refused.headers["Content-Type"] == "application/problem+json"


# What is secret, and what logs show of it


COOKIE = "flyte_at=the-session-of-somebody; nameless-session"
CALLER = (
    ("authorization", "Negotiate a-token-of-somebody"),
    ("cookie", COOKIE),
    ("x-key", "k" * 8),
)


@pytest.mark.parametrize("word", ["Negotiate", "flyte_at=", "x-key", "kkkkkkk"])
def test_schemes_and_names_are_no_secrets(word: str) -> None:
    assert not quotes(f"Flyte knows no {word} here", secrets_in(CALLER))


SECRETS = ["a-token-of-somebody", "the-session-of-somebody", "nameless-session", "kkkkkkkk"]


@pytest.mark.usefixtures("_safe_sdk")
@pytest.mark.parametrize("logger", ["flyte", "flyte.remote._data", "httpx", "httpcore.http11"])
@pytest.mark.parametrize("secret", SECRETS)
def test_no_record_of_the_sdk_quotes_a_credential(
    logger: str, secret: str, caplog: pytest.LogCaptureFixture
) -> None:
    log = logging.getLogger(logger)
    log.addHandler(caplog.handler)
    with remote.auth_metadata(*CALLER):
        log.error("Flyte said: %s", f"no {secret}")
        try:
            raise ConnectionError(f"no {secret}")
        except ConnectionError:
            log.exception("Flyte cannot be reached")
    log.removeHandler(caplog.handler)
    assert "removed" in caplog.text
    assert secret not in caplog.text


@pytest.mark.usefixtures("_safe_sdk")
def test_a_record_of_the_sdk_is_one_short_line(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("httpcore.http11")
    forged = "no\r\n2026-01-01 INFO \x1b[2Kall is well\u2028 " + "http://" * 1_000_000
    log.error(forged)
    try:
        raise ConnectionError(forged)
    except ConnectionError:
        log.exception("no")
    for line in caplog.text.splitlines():
        assert line.isprintable()
        assert "httpcore" in line[:40]
        assert len(line) < 2 * LONGEST_RECORD
    assert "ConnectionError: no" in caplog.text  # the traceback is not lost
