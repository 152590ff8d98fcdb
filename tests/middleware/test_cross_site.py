"""Pages of other origins: what they may not do with a visitor's credentials, and CORS."""

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from .harness import (
    ALICE,
    COOKIE,
    DENIAL,
    EVIL,
    IS_ALICE,
    Class,
    Header,
    Probe,
    ask,
    get,
    post,
    request,
    websocket,
)


def site(value: bytes) -> Header:
    return (b"sec-fetch-site", value)


def origin(value: bytes) -> Header:
    return (b"origin", value)


ELSEWHERE = {
    "cross-site": [site(b"cross-site")],
    "same-site": [site(b"same-site")],
    "unknown": [site(b"same-origin, cross-site")],
    "repeated": [site(b"cross-site"), site(b"same-origin")],
    "case": [site(b"Same-Origin")],
    "fetch before origin": [site(b"same-site"), origin(b"https://app.example.com")],
    "origin": [EVIL],
    "subdomain": [origin(b"https://x.app.example.com")],
    "suffix": [origin(b"https://app.example.com.evil.example")],
    "port": [origin(b"https://app.example.com:8443")],
    "null": [origin(b"null")],
    "two schemes": [origin(b"https://x://app.example.com")],
    "repeated origin": [EVIL, origin(b"https://app.example.com")],
    "not quite trusted": [origin(b"http://ui.example"), site(b"cross-site")],
}
HERE: dict[str, list[Header]] = {
    "no browser": [],
    "same-origin": [site(b"same-origin"), EVIL],
    "typed": [site(b"none")],
    "origin": [origin(b"https://app.example.com")],
    "case": [origin(b"https://APP.example.com")],
    "http": [origin(b"http://app.example.com")],
    "trusted": [origin(b"https://ui.example"), site(b"cross-site")],
}
OTHERS = {
    "cookie": COOKIE,
    "Basic": (b"authorization", b"Basic YTpi"),
    "Negotiate": (b"authorization", b"Negotiate YII="),
    "DPoP": (b"authorization", b"DPoP x"),
    "Bearers": (b"authorization", b"Bearers x"),
    "a header of its own": (b"x-api-key", b"k"),
}
BEARERS = [ALICE, (b"authorization", b"bearer alice")]
TRUSTED = {"trusted_origins": ["https://ui.example", "http://a"]}
Scopes = Callable[..., dict[str, Any]]
both_kinds = pytest.mark.parametrize("scope", [post, websocket])


def send(cls: Class, scope: dict[str, Any], **options: Any) -> Any:
    extractors = [cls.extract_authorization_header, cls.extract_cookie_header]
    extractors.append(cls.extract_custom_header("x-api-key"))
    return ask(cls, scope, extractors, **options)


@pytest.mark.parametrize("elsewhere", ELSEWHERE.values(), ids=ELSEWHERE)
@both_kinds
def test_an_unsafe_request_from_another_site_cannot_use_ambient_credentials(
    cls: Class, scope: Scopes, elsewhere: list[Header]
) -> None:
    answer = send(cls, scope(COOKIE, *elsewhere, **DENIAL), **TRUSTED)
    assert answer.status == 403
    assert answer.refused("Cross-site request refused")


@pytest.mark.parametrize("here", HERE.values(), ids=HERE)
@both_kinds
def test_own_and_trusted_pages_and_other_clients_may_use_all_credentials(
    cls: Class, scope: Scopes, here: list[Header]
) -> None:
    for credential in (*OTHERS.values(), *BEARERS):
        for ambient in (True, False):
            answer = send(cls, scope(credential, *here), **TRUSTED, assume_ambient=ambient)
            assert answer.status in (200, 101)


@pytest.mark.parametrize(
    "headers", [[bearer, *more] for bearer in BEARERS for more in ([], [COOKIE])]
)
def test_a_page_of_another_site_needs_a_bearer_token(cls: Class, headers: list[Header]) -> None:
    assert send(cls, post(*headers, EVIL, site(b"cross-site"))).status == 200
    assert send(cls, post(*headers, EVIL), assume_ambient=True).status == 403


@pytest.mark.parametrize("credential", OTHERS.values(), ids=OTHERS)
def test_no_other_credential_will_do(cls: Class, credential: Header) -> None:
    assert send(cls, post(credential, EVIL)).status == 403
    assert send(cls, get(credential, EVIL)).status == 200


def test_a_bearer_token_that_an_extractor_makes_will_not_do(cls: Class) -> None:
    made = [lambda _: ("authorization", "Bearer service")]
    assert ask(cls, post(EVIL), made).status == 403
    assert ask(cls, post(), made).status == 200


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "TRACE", "get", "QUERY", ""])
def test_every_method_but_the_safe_ones_is_unsafe(cls: Class, method: str) -> None:
    assert ask(cls, get(COOKIE, EVIL, method=method)).status == 403
    for safe in ("GET", "HEAD", "OPTIONS"):
        assert ask(cls, get(COOKIE, EVIL, method=safe), assume_ambient=True).status == 200


def test_an_origin_is_refused_if_there_is_no_host_to_compare(cls: Class) -> None:
    scope = post() | {"headers": [COOKIE, origin(b"null")]}
    assert ask(cls, scope).status == 403


INVALID = ["*", "null", "", "ui.example", "https://ui.example/", "https://*.example", "https://a b"]
INVALID += ["https://UI.example", "https://", "https://user@ui.example", "https://ui.example\n"]


@pytest.mark.parametrize("invalid", INVALID)
def test_an_invalid_origin_is_refused_at_construction(cls: Class, invalid: str) -> None:
    expected = re.escape(f"not an origin such as 'https://example.com': {invalid!r}")
    with pytest.raises(ValueError, match=expected):
        cls(Probe(), trusted_origins=[invalid])


PREFLIGHT = [(b"origin", b"https://ui.example"), (b"access-control-request-method", b"POST")]


def test_an_incomplete_preflight_is_refused(cls: Class) -> None:
    for headers in (PREFLIGHT[:1], PREFLIGHT[1:], [PREFLIGHT[0], (PREFLIGHT[1][0], b"")]):
        assert ask(cls, get(*headers, method="OPTIONS")).status == 401
    for method in ("options", "POST"):
        assert ask(cls, get(*PREFLIGHT, method=method)).status == 401


def test_a_preflight_with_credentials_is_an_ordinary_request(cls: Class) -> None:
    assert ask(cls, get(*PREFLIGHT, ALICE, method="OPTIONS")).credentials == IS_ALICE


def test_a_preflight_passes_to_cors_middleware_inside_without_credentials(cls: Class) -> None:
    assert ask(cls, get(*PREFLIGHT, method="OPTIONS")).credentials == {}
    origins = ["https://ui.example"]
    inside = Middleware(CORSMiddleware, allow_origins=origins, allow_methods=["POST"])
    app = Starlette(middleware=[Middleware(cls), inside])
    answer = asyncio.run(request(app, get(*PREFLIGHT, method="OPTIONS")))
    assert answer.status == 200
    assert (b"access-control-allow-origin", b"https://ui.example") in answer.headers
