"""What pages of other sites can do with the app, and those of trusted ones."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from app.headers import HEADERS, LARGEST_BODY
from app.main import create_app
from app.settings import load_settings

from .support import authorization_of, client_of, needs, offers, serving, token_of

TRUSTED = "https://trusted.example"
ELSEWHERE = {"Sec-Fetch-Site": "cross-site", "Origin": "https://elsewhere.example"}
ABORT = "/runs/x/abort"


@pytest.fixture(scope="module")
def trusting_url(environment: dict[str, str]) -> Iterator[str]:
    """An app that trusts the pages of one other origin."""
    settings = load_settings().model_copy(
        update={
            "trusted_origins": (TRUSTED,),
            "credential_headers": ("X-Api-Key",),
        }
    )
    with serving(create_app(settings)) as url:
        yield url


@pytest.fixture(scope="module")
def proxied_url(environment: dict[str, str]) -> Iterator[str]:
    """An app behind a proxy that hands on tokens."""
    settings = load_settings().model_copy(update={"token_header": "X-Forwarded-Access-Token"})
    with serving(create_app(settings)) as url:
        yield url


@pytest.fixture(scope="module")
def trusting(trusting_url: str) -> Iterator[httpx.Client]:
    """Someone who calls it."""
    with client_of(trusting_url, "alice") as client:
        yield client


@needs(ABORT, "POST")
@pytest.mark.parametrize(
    "header", ["Authorization", "X-Forwarded-Access-Token", "X-Api-Key", "Cookie"]
)
def test_whatever_the_credential_a_page_of_another_site_changes_nothing(
    trusting_url: str, proxied_url: str, header: str
) -> None:
    token = token_of("alice")
    value = {"Authorization": f"Bearer {token}", "Cookie": f"flyte_at={token}"}.get(header, token)
    url = proxied_url if header == "X-Forwarded-Access-Token" else trusting_url
    refused = httpx.post(
        f"{url}{ABORT}", headers={**ELSEWHERE, header: value}, trust_env=False, timeout=60
    )
    assert refused.status_code == 403
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert "Access-Control-Allow-Origin" not in refused.headers


def test_a_trusted_origin_is_told_that_it_may(trusting: httpx.Client) -> None:
    preflight = trusting.options(
        ABORT,
        headers={
            "Origin": TRUSTED,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type, authorization, x-api-key",
        },
    )
    assert preflight.status_code == 200
    assert preflight.headers["Access-Control-Allow-Origin"] == TRUSTED
    assert preflight.headers["Access-Control-Allow-Credentials"] == "true"
    assert "POST" in preflight.headers["Access-Control-Allow-Methods"]


def test_the_answer_to_a_preflight_has_the_headers_of_all_others(trusting: httpx.Client) -> None:
    headers = {"Origin": TRUSTED, "Access-Control-Request-Method": "POST"}
    preflight = trusting.options(ABORT, headers=headers)
    assert {name: preflight.headers[name] for name in HEADERS} == HEADERS


def test_a_trusted_origin_reads_that_its_request_is_too_large(trusting: httpx.Client) -> None:
    headers = {"Origin": TRUSTED, "Sec-Fetch-Site": "cross-site"}
    many = {f"X-Line-{number}": "x" * 8000 for number in range(9)}
    for response, status in (
        (trusting.get("/me", headers=headers | many), 431),
        (trusting.post(ABORT, headers=headers, content=bytes(LARGEST_BODY + 1)), 413),
    ):
        assert response.status_code == status
        assert response.headers["Access-Control-Allow-Origin"] == TRUSTED
        assert {name: response.headers[name] for name in HEADERS} == HEADERS


def test_another_origins_preflight_is_refused(trusting: httpx.Client) -> None:
    preflight = trusting.options(
        ABORT,
        headers={
            "Origin": "https://elsewhere.example",
            "Access-Control-Request-Method": "POST",
        },
    )
    assert preflight.status_code == 400
    assert "Access-Control-Allow-Origin" not in preflight.headers


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/me", {}),
        ("GET", "/me", {"Authorization": ""}),
        ("GET", "/nothing", {}),
        ("POST", ABORT, {}),
        ("GET", "/runs/x/events", {}),
    ],
)
def test_a_trusted_origin_reads_every_answer_whether_good_or_bad(
    trusting: httpx.Client, method: str, path: str, headers: dict[str, str]
) -> None:
    headers = {"Origin": TRUSTED, "Sec-Fetch-Site": "cross-site", **headers}
    response = trusting.request(method, path, headers=headers)
    assert response.status_code != 403
    assert response.headers["Access-Control-Allow-Origin"] == TRUSTED
    assert response.headers["Access-Control-Allow-Credentials"] == "true"
    assert "Origin" in response.headers["Vary"]


@needs("/runs/x/events")
def test_a_trusted_origin_reads_events(trusting: httpx.Client, greeting: dict[str, Any]) -> None:
    response = trusting.get(f"/runs/{greeting['name']}/events", headers={"Origin": TRUSTED})
    assert response.headers["Content-Type"].startswith("text/event-stream")
    assert response.headers["Access-Control-Allow-Origin"] == TRUSTED


@pytest.mark.skipif(not offers("/runs/x/watch", "WEBSOCKET"), reason="the app has no WebSocket")
def test_a_page_of_another_site_opens_no_websocket(
    trusting_url: str, greeting: dict[str, Any]
) -> None:
    url = f"{trusting_url.replace('http', 'ws', 1)}/runs/{greeting['name']}/watch"
    headers = {"Authorization": authorization_of("alice")}
    with pytest.raises(InvalidStatus) as refused:
        connect(url, additional_headers={**ELSEWHERE, **headers}, proxy=None, open_timeout=60)
    assert refused.value.response.status_code == 403
    trusted = {"Origin": TRUSTED, "Sec-Fetch-Site": "cross-site"}
    with connect(
        url, additional_headers={**trusted, **headers}, proxy=None, open_timeout=60
    ) as websocket:
        assert websocket.recv()


def test_two_sign_in_cookies_that_differ_are_refused(trusting_url: str) -> None:
    headers = {"Cookie": "flyte_at=one; flyte_at=two"}
    refused = httpx.get(f"{trusting_url}/me", headers=headers, trust_env=False, timeout=60)
    assert refused.status_code == 400
    assert refused.headers["Content-Type"] == "application/problem+json"
