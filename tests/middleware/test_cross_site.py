"""Tests of cross-site requests (CSRF) and CORS."""

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
    PREFLIGHT,
    Class,
    Header,
    Result,
    ask,
    echo_credentials,
    get,
    post,
    request,
    websocket,
)

SITE, ORIGIN = b"sec-fetch-site", b"origin"
HERE, TRUSTED = b"https://app.example.com", b"https://ui.example"
FOREIGN = [
    *([(SITE, site)] for site in (b"cross-site", b"same-site", b"Same-Origin")),
    *([(ORIGIN, origin)] for origin in (b"null", b"https://x.app.example.com", b"https://x://app")),
    *([(ORIGIN, HERE + more)] for more in (b".evil.example", b":8443", b", " + HERE)),
    [EVIL],
    [(SITE, b"same-site"), (ORIGIN, HERE)],
    [(SITE, b"cross-site"), (ORIGIN, b"http://ui.example")],
    [(SITE, b"cross-site"), (ORIGIN, TRUSTED + b", " + HERE)],
    [(SITE, b"cross-site"), (SITE, b"same-origin")],  # conflicting values are not trusted
    [(ORIGIN, b"null"), (ORIGIN, HERE)],
]
OWN = [
    [],
    [(SITE, b"none")],
    *([(ORIGIN, origin)] for origin in (HERE, HERE.upper(), b"http://app.example.com")),
    [(SITE, b"same-origin"), EVIL],
    [(SITE, b"cross-site"), (ORIGIN, TRUSTED)],
]
OTHERS = [COOKIE, (b"x-api-key", b"k")]
OTHERS += [(b"authorization", value) for value in (b"Basic YTpi", b"DPoP x", b"Bearers x")]
BEARERS = [ALICE, (b"authorization", b"bearer alice")]
both_kinds = pytest.mark.parametrize("scope", [post, websocket])
Scopes = Callable[..., dict[str, Any]]


def send(cls: Class, scope: dict[str, Any], **options: Any) -> Result:
    extractors = [cls.extract_authorization_header, cls.extract_cookie_header]
    extractors.append(cls.extract_custom_header("x-api-key"))
    origins = ["https://ui.example", "http://a"]
    return ask(cls, scope, extractors, trusted_origins=origins, **options)


@pytest.mark.parametrize("where", FOREIGN)
@both_kinds
def test_cross_site_unsafe_request_with_cookie_is_403(
    cls: Class, scope: Scopes, where: list[Header]
) -> None:
    """The same holds for WebSockets, and for all credentials except bearer tokens."""
    for credential in OTHERS:
        result = send(cls, scope(credential, *where, **DENIAL))
        assert result.refused("Cross-site request refused")
        assert send(cls, get(credential, *where)).status == 200
    for bearer in BEARERS:  # pages need a preflight to send a bearer token
        for headers in ([bearer], [COOKIE, bearer]):
            assert send(cls, scope(*headers, *where)).credentials
            result = send(cls, scope(*headers, *where, **DENIAL), assume_ambient=True)
            assert result.refused("Cross-site request refused")


@pytest.mark.parametrize("where", OWN)
@both_kinds
def test_own_and_trusted_origins_may_use_credentials(
    cls: Class, scope: Scopes, where: list[Header]
) -> None:
    """Clients other than browsers may also use credentials."""
    for credential in (*OTHERS, *BEARERS):
        assert send(cls, scope(credential, *where)).credentials
        assert send(cls, scope(credential, *where), assume_ambient=True).credentials


def test_cross_site_post_with_extracted_bearer_is_refused(cls: Class) -> None:
    extractors = [lambda _: ("authorization", "Bearer service")]
    assert ask(cls, post(EVIL), extractors).status == 403
    assert ask(cls, post(), extractors).status == 200


def test_origin_is_cross_site_if_host_is_missing(cls: Class) -> None:
    without = {"headers": [COOKIE, (ORIGIN, HERE)]}
    assert ask(cls, post() | without).refused("Cross-site request refused")


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "TRACE", "get", "QUERY", ""])
def test_only_safe_methods_are_allowed_cross_site(cls: Class, method: str) -> None:
    assert ask(cls, get(COOKIE, EVIL, method=method)).status == 403
    for safe in ("GET", "HEAD", "OPTIONS"):
        assert ask(cls, get(COOKIE, EVIL, method=safe), assume_ambient=True).status == 200


INVALID = ["*", "null", "", "ui.example", "https://ui.example/", "https://*.example", "https://a b"]
INVALID += ["https://UI.example", "https://", "https://user@ui.example", "https://ui.example\n"]


@pytest.mark.parametrize("invalid", INVALID)
def test_invalid_trusted_origin_raises_value_error(cls: Class, invalid: str) -> None:
    expected = re.escape(f"not an origin such as 'https://example.com': {invalid!r}")
    with pytest.raises(ValueError, match=expected):
        cls(echo_credentials, trusted_origins=[invalid])


def test_cors_preflight_passes_without_credentials(cls: Class) -> None:
    preflight = get(*PREFLIGHT, method="OPTIONS")
    assert ask(cls, preflight).credentials == {}
    origins = ["https://ui.example"]
    inside = Middleware(CORSMiddleware, allow_origins=origins, allow_methods=["POST"])
    result = asyncio.run(request(Starlette(middleware=[Middleware(cls), inside]), preflight))
    assert result.status == 200
    assert (b"access-control-allow-origin", b"https://ui.example") in result.headers
