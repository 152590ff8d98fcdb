"""Headers that responses have, and those that name the project."""

from collections.abc import AsyncGenerator
from typing import Any

import flyte
import httpx
import pytest
from fastapi import APIRouter
from fastapi.sse import EventSourceResponse, ServerSentEvent

from local_flyte import LocalFlyte
from local_flyte.testing import client_of, serving
from passthrough.http.headers import HEADERS

from ..support import build_app

router = APIRouter()


@router.get("/things")
async def things() -> str:
    return "things"


@router.get("/events", response_class=EventSourceResponse)
async def events() -> AsyncGenerator[ServerSentEvent]:
    yield ServerSentEvent(data=1)


def of_everywhere(headers: Any) -> dict[str, str]:
    return {name: headers[name] for name in HEADERS}


@pytest.mark.parametrize(
    ("path", "status"), [("/things", 200), ("/events", 200), ("/openapi.json", 200), ("/none", 404)]
)
def test_no_response_can_be_framed_cached_or_sniffed(
    alice: httpx.Client, path: str, status: int
) -> None:
    response = alice.get(path)
    assert response.status_code == status
    assert of_everywhere(response.headers) == HEADERS


def test_an_owner_may_add_headers_and_change_ours(local_flyte: LocalFlyte) -> None:
    added = {"Strict-Transport-Security": "max-age=1", "Referrer-Policy": "same-origin"}
    with serving(build_app(router, headers=added)) as url, client_of(url, "alice") as client:
        for path in ("/things", "/events", "/health", "/none"):
            sent = client.get(path).headers
            assert {name: sent[name] for name in added} == added


@router.get("/{project}/{domain}/where")
async def where(project: str, domain: str) -> list[str | None]:
    return [project, domain, flyte.current_project(), flyte.current_domain()]


def test_the_project_and_the_domain_are_those_of_the_query_or_the_apps(
    alice: httpx.Client, local_flyte: LocalFlyte
) -> None:
    asked = {"project": "two", "domain": "second"}
    own = {"project": local_flyte.project, "domain": local_flyte.domain}
    for query in (asked, {}):
        called = (own | query).values()
        assert alice.get("/a/b/where", params=query).json() == ["a", "b", *called]
