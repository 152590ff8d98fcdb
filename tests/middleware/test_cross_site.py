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

HERE, TRUSTED = b"https://app.example.com", b"https://ui.example"
Sources = list[tuple[bytes | None, bytes | None]]
"""The values of Sec-Fetch-Site and Origin, which say where a request comes from."""
FOREIGN: Sources = [(b"cross-site", None), (b"same-site", None), (b"same-site", HERE)]
FOREIGN += [(b"same-origin, cross-site", None), (b"Same-Origin", None)]
FOREIGN += [(None, b"null"), (None, b"https://evil.example"), (None, b"https://x.app.example.com")]
FOREIGN += [(None, HERE + b".evil.example"), (None, HERE + b":8443"), (None, b"https://x://app")]
FOREIGN += [(b"cross-site", b"http://ui.example"), (b"cross-site", TRUSTED + b", " + HERE)]
OWN: Sources = [(None, None), (b"same-origin", b"https://evil.example"), (b"none", None)]
OWN += [(None, HERE), (None, HERE.upper()), (None, b"http://app.example.com")]
OWN += [(b"cross-site", TRUSTED)]
OTHERS = [COOKIE, (b"authorization", b"Basic YTpi"), (b"authorization", b"Negotiate YII=")]
OTHERS += [(b"authorization", b"DPoP x"), (b"authorization", b"Bearers x"), (b"x-api-key", b"k")]
BEARERS = [ALICE, (b"authorization", b"bearer alice")]
Scopes = Callable[..., dict[str, Any]]
both_kinds = pytest.mark.parametrize("scope", [post, websocket])


def source(site: bytes | None, origin: bytes | None) -> list[Header]:
    found = [(b"sec-fetch-site", site), (b"origin", origin)]
    return [(name, value) for name, value in found if value is not None]


def send(cls: Class, scope: dict[str, Any], **options: Any) -> Any:
    extractors = [cls.extract_authorization_header, cls.extract_cookie_header]
    extractors.append(cls.extract_custom_header("x-api-key"))
    return ask(
        cls, scope, extractors, trusted_origins=["https://ui.example", "http://a"], **options
    )


@pytest.mark.parametrize("where", FOREIGN)
@both_kinds
def test_an_unsafe_request_from_another_site_cannot_use_ambient_credentials(
    cls: Class, scope: Scopes, where: tuple[bytes, bytes]
) -> None:
    answer = send(cls, scope(COOKIE, *source(*where), **DENIAL))
    assert answer.status == 403
    assert answer.refused("Cross-site request refused")


@pytest.mark.parametrize("where", OWN)
@both_kinds
def test_own_and_trusted_pages_and_other_clients_may_use_all_credentials(
    cls: Class, scope: Scopes, where: tuple[bytes, bytes]
) -> None:
    for credential in (*OTHERS, *BEARERS):
        for ambient in (True, False):
            answer = send(cls, scope(credential, *source(*where)), assume_ambient=ambient)
            assert answer.status in (200, 101)


@pytest.mark.parametrize("bearer", BEARERS)
def test_a_page_of_another_site_needs_a_bearer_token(cls: Class, bearer: Header) -> None:
    for more in ([], [COOKIE], source(b"cross-site", None)):
        assert send(cls, post(bearer, EVIL, *more)).status == 200
        assert send(cls, post(bearer, EVIL, *more), assume_ambient=True).status == 403


@pytest.mark.parametrize("credential", OTHERS)
def test_no_other_credential_will_do(cls: Class, credential: Header) -> None:
    assert send(cls, post(credential, EVIL)).status == 403
    assert send(cls, get(credential, EVIL)).status == 200


def test_a_bearer_token_that_an_extractor_makes_will_not_do(cls: Class) -> None:
    made = [lambda _: ("authorization", "Bearer service")]
    assert ask(cls, post(EVIL), made).status == 403
    assert ask(cls, post(), made).status == 200


@pytest.mark.parametrize("twice", [b"sec-fetch-site", b"origin"])
def test_of_two_sources_neither_counts(cls: Class, twice: bytes) -> None:
    values = (b"cross-site", b"same-origin") if twice == b"sec-fetch-site" else (b"null", HERE)
    assert send(cls, post(COOKIE, *((twice, value) for value in values))).status == 403


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "TRACE", "get", "QUERY", ""])
def test_every_method_but_the_safe_ones_is_unsafe(cls: Class, method: str) -> None:
    assert ask(cls, get(COOKIE, EVIL, method=method)).status == 403
    for safe in ("GET", "HEAD", "OPTIONS"):
        assert ask(cls, get(COOKIE, EVIL, method=safe), assume_ambient=True).status == 200


def test_an_origin_is_refused_if_there_is_no_host_to_compare(cls: Class) -> None:
    scope = post() | {"headers": [COOKIE, (b"origin", b"null")]}
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
