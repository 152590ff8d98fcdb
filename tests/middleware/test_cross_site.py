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
    case,
    get,
    no_option,
    post,
    request,
    sdk_fails,
    websocket,
)

CROSS_SITE = "a cookie is taken from any site"
BASIC = (b"authorization", b"Basic YTpi")
DPOP = (b"authorization", b"DPoP x")
KEY = (b"x-api-key", b"k")


def site(value: bytes) -> Header:
    return (b"sec-fetch-site", value)


def origin(value: bytes) -> Header:
    return (b"origin", value)


ELSEWHERE = {
    "cross-site": [site(b"cross-site")],
    "same-site": [site(b"same-site")],
    "unknown": [site(b"same-origin, cross-site")],
    "repeated": [site(b"same-origin"), site(b"cross-site")],
    "case": [site(b"Same-Origin")],
    "fetch before origin": [site(b"same-site"), origin(b"https://app.example.com")],
    "origin": [EVIL],
    "subdomain": [origin(b"https://x.app.example.com")],
    "suffix": [origin(b"https://app.example.com.evil.example")],
    "prefix": [origin(b"https://evilapp.example.com")],
    "port": [origin(b"https://app.example.com:8443")],
    "null": [origin(b"null")],
    "no scheme": [origin(b"app.example.com")],
    "two schemes": [origin(b"https://x://app.example.com")],
    "repeated origin": [origin(b"https://app.example.com"), EVIL],
}
HERE: dict[str, list[Header]] = {
    "no browser": [],
    "same-origin": [site(b"same-origin"), EVIL],
    "typed": [site(b"none")],
    "origin": [origin(b"https://app.example.com")],
    "case": [origin(b"https://APP.example.com")],
    "http": [origin(b"http://app.example.com")],
    "blank origin": [origin(b"")],
    "trusted": [origin(b"https://ui.example"), site(b"cross-site")],
}
AMBIENT = {
    "Basic": BASIC,
    "digest": (b"authorization", b"digest username=a"),
    "Negotiate": (b"authorization", b"Negotiate YII="),
    "NTLM": (b"authorization", b"NTLM TlR="),
}
INTENDED = {"Bearer": ALICE, "DPoP": DPOP, "custom": KEY}
Scopes = Callable[..., dict[str, Any]]
"""Makes a scope from headers."""


def all_extractors(cls: Class) -> list[Any]:
    custom = cls.extract_custom_header("x-api-key")
    return [cls.extract_authorization_header, cls.extract_cookie_header, custom]


@sdk_fails(CROSS_SITE, raises=(AssertionError, TypeError))
@pytest.mark.parametrize(
    ("elsewhere", "credential", "options"),
    [
        *(case(name, elsewhere, COOKIE, {}) for name, elsewhere in ELSEWHERE.items()),
        *(case(name, [EVIL], credential, {}) for name, credential in AMBIENT.items()),
        *(case(name, [EVIL], one, {"assume_ambient": True}) for name, one in INTENDED.items()),
    ],
)
@pytest.mark.parametrize("scope", [post, websocket])
def test_an_unsafe_request_from_another_site_cannot_use_ambient_credentials(
    cls: Class, scope: Scopes, elsewhere: list[Header], credential: Header, options: dict[str, bool]
) -> None:
    answer = ask(cls, scope(credential, *elsewhere, **DENIAL), all_extractors(cls), **options)
    assert answer.status == 403
    assert answer.refused("Cross-site request refused")


@no_option
@pytest.mark.parametrize("here", HERE.values(), ids=HERE)
@pytest.mark.parametrize("scope", [post, websocket])
def test_own_and_trusted_pages_and_other_clients_may_use_ambient_credentials(
    cls: Class, scope: Scopes, here: list[Header]
) -> None:
    answer = ask(cls, scope(COOKIE, *here), trusted_origins=["https://ui.example", "http://a"])
    assert answer.status in (200, 101)


@sdk_fails(CROSS_SITE)
@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "TRACE", "get", "QUERY", ""])
def test_every_method_but_the_safe_ones_is_unsafe(cls: Class, method: str) -> None:
    assert ask(cls, get(COOKIE, EVIL, method=method)).status == 403
    for safe in ("GET", "HEAD", "OPTIONS"):
        assert ask(cls, get(COOKIE, EVIL, method=safe)).status == 200


@no_option
def test_with_assume_ambient_safe_and_own_requests_pass(cls: Class) -> None:
    for scope in (get(ALICE, EVIL), post(ALICE), post(ALICE, site(b"same-origin"))):
        assert ask(cls, scope, assume_ambient=True).status == 200


@pytest.mark.parametrize(
    "headers", [[DPOP], [ALICE, COOKIE], [KEY, COOKIE], [KEY, BASIC], [(b"x-api-key", b"Key  k ")]]
)
def test_bearer_and_custom_headers_may_come_from_anywhere(
    cls: Class, headers: list[Header]
) -> None:
    assert ask(cls, post(*headers, EVIL, site(b"same-site")), all_extractors(cls)).status == 200


def test_a_blank_authorization_header_shows_no_intent(ours: Class) -> None:
    assert ask(ours, post(COOKIE, EVIL, (b"authorization", b" \t"))).status == 403


def cookie_as_bearer(request: Any) -> tuple[str, str]:
    return ("authorization", f"Bearer {request.cookies['session']}")


@sdk_fails(CROSS_SITE)
@pytest.mark.parametrize(
    ("extractor", "headers"),
    [
        (cookie_as_bearer, [COOKIE]),
        (cookie_as_bearer, [COOKIE, (b"accept-language", b""), (b"accept", b"Bearer ")]),
        (lambda request: ("x-session", request.headers["cookie"]), [COOKIE]),
        (lambda request: ("x-basic", request.headers["authorization"]), [BASIC]),
        (lambda _: ("authorization", "Bearer service"), []),
    ],
)
def test_a_credential_made_from_ambient_credentials_is_ambient(
    cls: Class, extractor: Any, headers: list[Header]
) -> None:
    assert ask(cls, post(*headers, EVIL), [extractor]).status == 403


def test_a_credential_made_from_a_custom_header_is_not_ambient(cls: Class) -> None:
    def key_as_bearer(request: Any) -> tuple[str, str]:
        return ("authorization", f"Bearer {request.headers['x-api-key']}")

    answer = ask(cls, post(COOKIE, (b"x-api-key", b"k\tl"), EVIL), [key_as_bearer])
    assert answer.credentials == {"authorization": "Bearer k\tl"}


SET_BY_ANY_PAGE = ["Accept", "Accept-Language", "Content-Type", "Content-Language", "User-Agent"]
SET_BY_ANY_PAGE += ["Content-Location", "Referer", "Origin", "Sec-WebSocket-Protocol", "Range"]
SET_BY_ANY_PAGE += ["Sec-Purpose", "Last-Event-ID", "Cache-Control", "Pragma", "If-None-Match"]
SET_BY_ANY_PAGE += ["Priority", "Ping-From"]
ADDED_BY_A_PROXY = ["X-Forwarded-For", "X-Forwarded-User", "X-Forwarded-Access-Token", "Via"]
ADDED_BY_A_PROXY += ["X-Auth-Request-Access-Token", "X-Amzn-Oidc-Accesstoken", "X-Real-IP"]
ADDED_BY_A_PROXY += ["X-Goog-Iap-Jwt-Assertion", "X-Ms-Token-Aad-Access-Token", "Forwarded"]
ADDED_BY_A_PROXY += ["Cf-Access-Jwt-Assertion"]


@sdk_fails(CROSS_SITE)
@pytest.mark.parametrize("name", SET_BY_ANY_PAGE + ADDED_BY_A_PROXY)
def test_a_header_without_intent_does_not_make_a_cookie_intended(cls: Class, name: str) -> None:
    repeated = (name.lower().encode(), b"Bearer alice")
    scope = post(COOKIE, repeated, site(b"cross-site"))
    assert ask(cls, scope, [cookie_as_bearer]).status == 403


@pytest.mark.parametrize("name", ["x-token", "accepted", "security", "x-msg", "hosts", "iff"])
def test_a_header_with_a_similar_name_shows_intent(cls: Class, name: str) -> None:
    scope = post(COOKIE, (name.encode(), b"alice"), EVIL)
    assert ask(cls, scope, [cookie_as_bearer]).status == 200


@sdk_fails(CROSS_SITE)
@pytest.mark.parametrize("name", ADDED_BY_A_PROXY)
def test_a_credential_that_a_proxy_adds_is_ambient(cls: Class, name: str) -> None:
    extract, headers = cls.extract_custom_header(name), [(name.lower().encode(), b"token"), EVIL]
    assert ask(cls, post(*headers), [extract]).status == 403
    assert ask(cls, get(*headers), [extract]).status == 200


@sdk_fails(CROSS_SITE)
def test_a_cookie_is_ambient_even_if_its_last_word_is_in_another_header(cls: Class) -> None:
    jar = (b"cookie", b"session=alice; theme=dark")
    assert ask(cls, post(jar, (b"x-theme", b"theme=dark"), EVIL)).status == 403


@sdk_fails(CROSS_SITE)
def test_an_origin_is_refused_if_there_is_no_host_to_compare(cls: Class) -> None:
    scope = post() | {"headers": [COOKIE, origin(b"null")]}
    assert ask(cls, scope).status == 403


OTHER_ORIGINS = ["http://ui.example", "https://ui.example:444", "https://x.ui.example", "null", ""]
OTHER_ORIGINS += ["https://ui.example/", "https://UI.example", "https://ui.exampl"]
OTHER_ORIGINS += ["https://ui.example, https://b"]


@no_option
@pytest.mark.parametrize("other", OTHER_ORIGINS)
def test_trusted_origins_are_exact(cls: Class, other: str) -> None:
    scope = post(COOKIE, origin(other.encode()), site(b"cross-site"))
    for trusted in (["https://ui.example"], "https://ui.example"):
        assert ask(cls, scope, trusted_origins=trusted).status == 403


INVALID = ["*", "null", "", "ui.example", "https://ui.example/", "https://*.example", "https://a b"]
INVALID += ["https://UI.example", "https://", "https://user@ui.example", "https://ui.example\n"]


@pytest.mark.parametrize("invalid", INVALID)
def test_an_invalid_origin_is_refused_at_construction(ours: Class, invalid: str) -> None:
    with pytest.raises(
        ValueError, match=re.escape(f"not an origin such as 'https://example.com': {invalid!r}")
    ):
        ours(Probe(), trusted_origins=[invalid])


PREFLIGHT = [(b"origin", b"https://ui.example"), (b"access-control-request-method", b"POST")]
ALLOWED = (b"access-control-allow-origin", b"https://ui.example")


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("OPTIONS", PREFLIGHT[:1]),
        ("OPTIONS", PREFLIGHT[1:]),
        ("OPTIONS", [PREFLIGHT[0], (b"access-control-request-method", b"")]),
        ("OPTIONS", [(b"origin", b" "), PREFLIGHT[1]]),
        ("options", PREFLIGHT),
        ("POST", PREFLIGHT),
    ],
)
def test_an_incomplete_preflight_is_refused(cls: Class, method: str, headers: list[Header]) -> None:
    assert ask(cls, get(*headers, method=method)).status == 401


def test_a_preflight_with_credentials_is_an_ordinary_request(cls: Class) -> None:
    assert ask(cls, get(*PREFLIGHT, ALICE, method="OPTIONS")).credentials == IS_ALICE


@sdk_fails("preflights are refused")
def test_a_preflight_passes_to_cors_middleware_inside_without_credentials(cls: Class) -> None:
    assert ask(cls, get(*PREFLIGHT, method="OPTIONS")).credentials == {}
    origins = ["https://ui.example"]
    inside = Middleware(CORSMiddleware, allow_origins=origins, allow_methods=["POST"])
    app = Starlette(middleware=[Middleware(cls), inside])
    answer = asyncio.run(request(app, get(*PREFLIGHT, method="OPTIONS")))
    assert answer.status == 200
    assert ALLOWED in answer.headers
