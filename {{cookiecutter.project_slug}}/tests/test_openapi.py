"""What the API says of itself at /docs."""

from typing import Any

import httpx
import pytest

from .support import PUBLIC


@pytest.fixture(scope="module")
def schema(anonymous: httpx.Client) -> dict[str, Any]:
    document: dict[str, Any] = anonymous.get("/openapi.json").json()
    return document


def test_the_authorize_button_offers_bearer_and_cookie(schema: dict[str, Any]) -> None:
    schemes = schema["components"]["securitySchemes"]
    assert {(s["type"], s.get("scheme"), s.get("in")) for s in schemes.values()} == {
        ("http", "bearer", None),
        ("apiKey", None, "cookie"),
    }


def test_every_operation_is_described_and_says_what_can_go_wrong(schema: dict[str, Any]) -> None:
    operations = {
        (method, path): operation
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    }
    for (method, path), operation in operations.items():
        assert operation["summary"], (method, path)
        if path in PUBLIC:
            assert "security" not in operation, (method, path)
            continue
        assert operation["security"], (method, path)
        responses = operation["responses"]
        assert {"401", "403", "429", "503", "504"} <= responses.keys(), (method, path)
        assert "application/problem+json" in responses["401"]["content"]


def test_docs_page_loads(anonymous: httpx.Client) -> None:
    page = anonymous.get("/docs")
    assert page.status_code == 200
    assert "openapi.json" in page.text
