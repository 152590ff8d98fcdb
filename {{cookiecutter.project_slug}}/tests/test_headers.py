"""What every response tells browsers and caches, and how much a request may say."""

import socket
from typing import Literal
from urllib.parse import urlsplit

import httpx
import pytest

from app.headers import HEADERS, LARGEST_HEADERS
from app.main import create_app
from app.settings import load_settings

from .support import client_of, needs, serving


@pytest.mark.parametrize(
    "path", ["/me", "/runs", "/health", "/openapi.json", "/nothing", "/runs/x"]
)
def test_every_response_is_kept_from_frames_caches_and_guesses(
    alice: httpx.Client, path: str
) -> None:
    response = alice.get(path)
    assert {name: response.headers[name] for name in HEADERS} == HEADERS
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["referrer-policy"] == "no-referrer"
    assert response.headers["x-content-type-options"] == "nosniff"


@needs("/runs/x/events")
def test_refusals_and_events_have_the_headers_too(
    alice: httpx.Client, anonymous: httpx.Client, greeting: dict[str, str]
) -> None:
    refused = anonymous.get("/me")
    events = alice.get(f"/runs/{greeting['name']}/events")
    assert (refused.status_code, events.status_code) == (401, 200)
    for response in (refused, events):
        assert {name: response.headers[name] for name in HEADERS} == HEADERS


def test_pages_are_framed_by_nobody() -> None:
    assert "frame-ancestors 'none'" in HEADERS["content-security-policy"]
    assert "default-src 'none'" in HEADERS["content-security-policy"]
    assert "unsafe" not in HEADERS["content-security-policy"]


def test_no_other_site_embeds_an_answer_or_holds_on_to_a_window() -> None:
    assert HEADERS["cross-origin-resource-policy"] == "same-origin"
    assert HEADERS["cross-origin-opener-policy"] == "same-origin"


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_headers_that_are_too_large_are_refused(
    environment: dict[str, str], http: Literal["h11", "httptools"]
) -> None:
    with (
        serving(create_app(load_settings()), http=http) as url,
        client_of(url, "alice") as client,
    ):
        line = "x" * 8000
        usual = client.get("/health", headers={"X-Line": line})
        many = {f"X-Line-{i}": line for i in range(LARGEST_HEADERS // len(line) + 1)}
        large = client.get("/me", headers=many)
        health = client.get("/health", headers=many)
    assert usual.status_code == 200
    # h11 has a lower limit of its own, which counts if the headers come in pieces.
    assert {large.status_code, health.status_code} <= {431, 400 if http == "h11" else 431}


def test_many_small_headers_are_too_large_as_well(environment: dict[str, str]) -> None:
    with serving(create_app(load_settings()), http="httptools") as url:
        address = urlsplit(url)
        with socket.create_connection((address.hostname, address.port)) as client:
            client.sendall(b"GET /me HTTP/1.1\r\n" + b"a:\r\n" * 60_000 + b"\r\n")
            assert client.makefile("rb").readline().startswith(b"HTTP/1.1 431 ")


def test_a_405_says_what_is_allowed(alice: httpx.Client) -> None:
    response = alice.delete("/health")
    assert response.status_code == 405
    assert response.headers["Allow"] == "GET"
    assert response.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("path", ["/runs/", "//elsewhere.example/", "/me/"])
def test_no_redirect_is_built_from_the_host_that_a_client_names(
    alice: httpx.Client, path: str
) -> None:
    response = alice.get(path, headers={"Host": "elsewhere.example"})
    assert "elsewhere" not in response.headers.get("Location", "")
