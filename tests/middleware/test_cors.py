"""Preflights, and CORS middleware inside and outside."""

import asyncio

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from .harness import ALICE, Class, ask, http_scope, request, sdk_fails

PREFLIGHT = [(b"origin", b"https://ui.example"), (b"access-control-request-method", b"POST")]


@sdk_fails("preflights are refused")
def test_a_preflight_passes_without_credentials(middleware_class: Class) -> None:
    answer = ask(middleware_class, http_scope(headers=PREFLIGHT, method="OPTIONS"))
    assert answer.status == 200
    assert answer.credentials == {}
    scope = http_scope(method="OPTIONS")
    scope["headers"] = PREFLIGHT
    assert ask(middleware_class, scope).credentials == {}


def test_a_preflight_with_credentials_is_an_ordinary_request(middleware_class: Class) -> None:
    scope = http_scope(headers=[*PREFLIGHT, ALICE], method="OPTIONS")
    assert ask(middleware_class, scope).credentials == {"authorization": "Bearer alice"}


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("OPTIONS", []),
        ("OPTIONS", PREFLIGHT[:1]),
        ("OPTIONS", PREFLIGHT[1:]),
        ("OPTIONS", [PREFLIGHT[0], (b"access-control-request-method", b"")]),
        ("OPTIONS", [(b"origin", b" "), PREFLIGHT[1]]),
        ("options", PREFLIGHT),
        ("GET", PREFLIGHT),
        ("POST", PREFLIGHT),
    ],
)
def test_an_incomplete_preflight_is_refused(
    middleware_class: Class, method: str, headers: list[tuple[bytes, bytes]]
) -> None:
    assert ask(middleware_class, http_scope(headers=headers, method=method)).status == 401


@sdk_fails("preflights are refused")
def test_cors_middleware_inside_answers_preflights(middleware_class: Class) -> None:
    inside = Middleware(CORSMiddleware, allow_origins=["https://ui.example"], allow_methods=["*"])
    app = Starlette(middleware=[Middleware(middleware_class), inside])
    answer = asyncio.run(request(app, http_scope(headers=PREFLIGHT, method="OPTIONS")))
    assert answer.status == 200
    assert answer.header(b"access-control-allow-origin") == [b"https://ui.example"]


def test_refusals_get_cors_headers_from_cors_middleware_outside(middleware_class: Class) -> None:
    outside = Middleware(CORSMiddleware, allow_origins=["https://ui.example"])
    app = Starlette(middleware=[outside, Middleware(middleware_class)])
    for _ in range(2):  # the second answer must not carry what was added to the first
        answer = asyncio.run(request(app, http_scope(headers=PREFLIGHT[:1])))
        assert answer.status == 401
        assert answer.header(b"access-control-allow-origin") == [b"https://ui.example"]
    assert asyncio.run(request(app, http_scope())).header(b"access-control-allow-origin") == []
