"""Headers of all responses."""

from collections.abc import AsyncGenerator

import httpx
import pytest
from fastapi import APIRouter
from fastapi.sse import EventSourceResponse, ServerSentEvent

from local_flyte import LocalFlyte
from local_flyte.testing import client_of, serving

from ..support import build_app

router = APIRouter()
LITERAL = {
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
"""Written out, so that a header cannot be removed from `HEADERS` by mistake."""


@router.get("/things")
async def things() -> str:
    return "things"


@router.get("/events", response_class=EventSourceResponse)
async def events() -> AsyncGenerator[ServerSentEvent]:
    yield ServerSentEvent(data=1)


@pytest.mark.parametrize(
    ("path", "status"), [("/things", 200), ("/events", 200), ("/openapi.json", 200), ("/none", 404)]
)
def test_every_response_has_security_headers(alice: httpx.Client, path: str, status: int) -> None:
    response = alice.get(path)
    assert response.status_code == status
    assert dict(response.headers).items() >= LITERAL.items()
    policy = response.headers["content-security-policy"].split("; ")
    assert {"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"} <= {*policy}


def test_headers_of_app_replace_defaults(local_flyte: LocalFlyte) -> None:
    added = {"Strict-Transport-Security": "max-age=1", "Referrer-Policy": "same-origin"}
    with serving(build_app(router, headers=added)) as url, client_of(url, "alice") as client:
        for path in ("/things", "/events", "/health", "/none"):
            headers = client.get(path).headers
            assert {name: headers[name] for name in added} == added
