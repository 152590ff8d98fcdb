"""Tests of the OpenAPI document and of the API documentation at /docs."""

import re
from typing import Any

import httpx
import pytest

from local_flyte.operations import PUBLIC


@pytest.fixture(scope="module")
def operations(anonymous: httpx.Client) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the operations by method and path."""
    document: dict[str, Any] = anonymous.get("/openapi.json").json()
    return {
        (method, path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def test_operations_have_unique_ids_and_problem_responses(
    operations: dict[tuple[str, str], dict[str, Any]],
) -> None:
    names = [operation["operationId"] for operation in operations.values()]
    assert len(names) == len({*names})
    assert "health" in names  # names of functions
    for (method, path), operation in operations.items():
        assert operation["summary"], (method, path)
        assert [*operation["responses"]["default"]["content"]] == ["application/problem+json"]
        if path in PUBLIC:
            assert operation["security"] == [], (method, path)
        else:
            assert {"bearer": []} in operation["security"], (method, path)


def test_api_docs_load_no_external_files(
    anonymous: httpx.Client,
) -> None:
    """The documentation needs no credentials."""
    page = anonymous.get("/docs")
    assert page.status_code == 200
    assert "script-src 'sha256-" in page.headers["Content-Security-Policy"]  # not unsafe-inline
    assert "//" not in page.text  # no other origin
    assert "<title>{{ cookiecutter.project_slug }}</title>" in page.text
    files = re.findall(r'<(?:script|link)[^>]* (?:src|href)="([^":]+)"', page.text)
    assert len(files) > 1
    for file in files:
        assert anonymous.get(f"/{file}").status_code == 200, file
