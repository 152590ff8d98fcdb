"""What the API says of itself at /docs."""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from app.main import create_app
from app.settings import load_settings

from .support import PUBLIC, needs


@pytest.fixture(scope="module")
def schema(anonymous: httpx.Client) -> dict[str, Any]:
    document: dict[str, Any] = anonymous.get("/openapi.json").json()
    return document


def test_the_authorize_button_offers_every_credential(
    schema: dict[str, Any], environment: dict[str, str]
) -> None:
    schemes = schema["components"]["securitySchemes"]
    assert {"bearer": "http", "cookie": "apiKey"}.items() <= {
        name: scheme["type"] for name, scheme in schemes.items()
    }.items()
    settings = load_settings().model_copy(update={"credential_headers": ("X-Tenant-Key",)})
    document = create_app(settings).openapi()
    scheme = document["components"]["securitySchemes"]["X-Tenant-Key"]
    assert (scheme["in"], scheme["name"]) == ("header", "X-Tenant-Key")
    guarded = [o for (_, path), o in operations_of(document).items() if path not in PUBLIC]
    assert all({"X-Tenant-Key": []} in operation["security"] for operation in guarded)


def operations_of(schema: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the operations by method and path."""
    return {
        (method, path): operation
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    }


def test_every_operation_says_what_can_go_wrong(schema: dict[str, Any]) -> None:
    operations = operations_of(schema)
    assert operations
    for (method, path), operation in operations.items():
        assert operation["summary"], (method, path)
        responses = operation["responses"]
        assert list(responses["500"]["content"]) == ["application/problem+json"]
        if path in PUBLIC:
            assert "security" not in operation, (method, path)
            continue
        assert operation["security"], (method, path)
        assert {"400", "401", "403", "429", "431", "500", "502", "503", "504"} <= responses.keys()
        assert "requestBody" not in operation or "413" in responses, (method, path)


def test_operations_are_called_as_their_functions(schema: dict[str, Any]) -> None:
    names = [operation["operationId"] for operation in operations_of(schema).values()]
    assert len(names) == len(set(names))
    assert all(name.isidentifier() for name in names)


def references(value: Any) -> Iterator[str]:
    """Find every reference in a part of the document."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "$ref":
                yield item
            else:
                yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def test_every_reference_leads_somewhere(schema: dict[str, Any]) -> None:
    targets = set(references(schema))
    assert "#/components/schemas/Problem" in targets
    for target in targets:
        found = schema
        for step in target.removeprefix("#/").split("/"):
            found = found[step]
    assert "HTTPValidationError" not in schema["components"]["schemas"]


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_the_documentation_comes_from_the_apps_own_origin_without_credentials(
    anonymous: httpx.Client, path: str
) -> None:
    page = anonymous.get(path)
    assert page.status_code == 200
    assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]
    assert "script-src 'self';" in page.headers["Content-Security-Policy"]
    assert "//" not in page.text  # no other origin
    assert "<script>" not in page.text
    parts = re.findall(r'(?:src|href|spec-url)="([^"]+)"', page.text)
    assert len(parts) > 1
    for part in parts:
        if part != "data:,":
            response = anonymous.get(f"/{part}")
            assert response.status_code == 200, part
            assert response.content


def test_only_the_files_of_the_documentation_are_served(anonymous: httpx.Client) -> None:
    assert anonymous.get("/docs/favicon.png").status_code == 401
    assert anonymous.get("/docs/../pyproject.toml").status_code == 401


@needs("/tasks/x/runs", "POST")
def test_a_started_run_is_linked_to_what_can_be_done_with_it(schema: dict[str, Any]) -> None:
    operations = {
        operation["operationId"]: operation
        for path in schema["paths"].values()
        for operation in path.values()
    }
    links = operations["run_task"]["responses"]["201"]["links"]
    for name in {"get_run", "run_events", "run_logs", "get_run_io", "abort_run"} & {*operations}:
        taken = {parameter["name"] for parameter in operations[name]["parameters"]}
        assert set(links[name]["parameters"]) <= taken
    assert {link["operationId"] for link in links.values()} <= {*operations}
