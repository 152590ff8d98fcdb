"""Tests of excluded paths."""

import asyncio

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from .harness import ALICE, Class, ask, echo_credentials, get, request

OTHERS = ["/health/", "/healthz", "/Health", "//health", "/x/health", "/health/x", "/", "/heal", ""]
OTHERS += ["/health;a", "/health%2f", "/./health", "/x/../health", "/health\\", "/health?x"]


@pytest.mark.parametrize("path", OTHERS)
def test_excluded_path_must_match_exactly(cls: Class, path: str) -> None:
    assert ask(cls, get(path=path), None, {"/health"}).status == 401


def test_excluded_path_is_compared_with_full_path(cls: Class) -> None:
    behind = get(path="/api/health", root_path="/api")
    assert ask(cls, behind, None, {"/health"}).status == 401
    assert ask(cls, behind, None, {"/api/health"}).credentials == {}
    outer = Starlette(routes=[Mount("/sub", app=cls(echo_credentials, None, {"/health"}))])
    assert asyncio.run(request(outer, get(path="/sub/health"))).status == 401


@pytest.mark.parametrize("first", ["/health", None])
def test_excluded_paths_can_be_extended_at_runtime(cls: Class, first: str | None) -> None:
    paths = {first} if first else set()
    app = cls(echo_credentials, None, paths)
    assert asyncio.run(request(app, get(path="/late"))).status == 401
    paths.add("/late")
    assert asyncio.run(request(app, get(path="/late"))).status == 200


@pytest.mark.parametrize("path", ["/", "/a", "/health", ""])
def test_excluded_paths_string_is_single_path(cls: Class, path: str) -> None:
    assert ask(cls, get(path="/a/health"), None, "/a/health").status == 200
    assert ask(cls, get(path=path), None, "/a/health").status == 401


def test_invalid_utf8_query_string_is_served(cls: Class) -> None:
    assert ask(cls, get(ALICE, query_string=b"q=\xff\xfe")).status == 200
