"""The path that is checked, and excluded paths."""

import asyncio

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from .harness import ALICE, Class, Probe, ask, http_scope, request, sdk_fails

# CVE-2026-48710; with the newest Starlette it does not affect the SDK's class either.
URL_OF_HOST = sdk_fails(
    "the path is read from a URL made of the Host header",
    raises=(AssertionError, ValueError),
    strict=False,
)


REPARSED = sdk_fails("the path is read from a URL that is parsed again", strict=False)


@pytest.mark.parametrize(
    "path",
    [
        "/health/",
        "/healthz",
        "/Health",
        "//health",
        "/x/health",
        "/health/x",
        "/",
        "/heal",
        "",
        "/health;a",
        "/health%2f",
        "/./health",
        "/x/../health",
        "/health\\",
        pytest.param("/health?x", marks=REPARSED),
        pytest.param("/health#x", marks=REPARSED),
    ],
)
def test_an_excluded_path_is_compared_whole_and_exact(middleware_class: Class, path: str) -> None:
    assert ask(middleware_class, http_scope("/health"), None, {"/health"}).credentials == {}
    assert ask(middleware_class, http_scope(path), None, {"/health"}).status == 401


def test_root_path_does_not_widen_an_excluded_path(middleware_class: Class) -> None:
    excluded = {"/health"}
    behind = http_scope("/api/health", root_path="/api")
    assert ask(middleware_class, behind, None, excluded).status == 401
    assert ask(middleware_class, behind, None, {"/api/health"}).credentials == {}


def test_a_mount_does_not_widen_an_excluded_path(middleware_class: Class) -> None:
    probe = Probe()
    inner = middleware_class(probe, None, {"/health"})
    outer = Starlette(routes=[Mount("/sub", app=inner)])
    assert asyncio.run(request(outer, http_scope("/sub/health"))).status == 401
    inner.excluded_paths.add("/sub/health")
    assert asyncio.run(request(outer, http_scope("/sub/health"))).status == 200
    assert probe.seen == [{}]


def test_credentials_are_not_checked_on_excluded_paths(middleware_class: Class) -> None:
    scope = http_scope("/health", headers=[ALICE])
    assert ask(middleware_class, scope, None, {"/health"}).credentials == {}


def test_a_path_excluded_later_counts(middleware_class: Class) -> None:
    paths = {"/health"}
    app = middleware_class(Probe(), None, paths)
    assert asyncio.run(request(app, http_scope("/late"))).status == 401
    paths.add("/late")
    assert asyncio.run(request(app, http_scope("/late"))).status == 200


@pytest.mark.parametrize(
    "host",
    [
        pytest.param(b"a/health?", marks=URL_OF_HOST),
        pytest.param(b"a/health#", marks=URL_OF_HOST),
        b"a/health",
        b"",
        pytest.param(b"[", marks=URL_OF_HOST),
        b"a:b:c",
        b"\xff",
    ],
)
def test_the_host_header_does_not_affect_the_path(middleware_class: Class, host: bytes) -> None:
    scope = http_scope("/admin")
    scope["headers"] = [(b"host", host)]
    assert ask(middleware_class, scope, None, {"/health"}).status == 401


def test_one_path_may_be_given_as_a_string(middleware_class: Class) -> None:
    assert ask(middleware_class, http_scope("/a/health"), None, "/a/health").status == 200


@sdk_fails("a string becomes a substring test")
@pytest.mark.parametrize("path", ["/", "/a", "/health", ""])
def test_a_string_of_excluded_paths_is_not_a_substring_test(
    middleware_class: Class, path: str
) -> None:
    assert ask(middleware_class, http_scope(path), None, "/a/health").status == 401


@sdk_fails("an empty set is replaced by another one")
def test_a_path_added_to_an_empty_set_counts(middleware_class: Class) -> None:
    paths: set[str] = set()
    app = middleware_class(Probe(), None, paths)
    paths.add("/late")
    assert asyncio.run(request(app, http_scope("/late"))).status == 200


@sdk_fails("the URL is decoded as UTF-8", raises=UnicodeDecodeError)
def test_a_query_string_that_is_not_utf_8_does_not_fail(middleware_class: Class) -> None:
    scope = http_scope("/", headers=[ALICE], query_string=b"q=\xff\xfe")
    assert ask(middleware_class, scope).status == 200
