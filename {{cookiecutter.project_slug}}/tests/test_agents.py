"""Tests of MCP tools (docs/agents.md). Use this file as an example for tests of your tools."""

import httpx
import pytest

from app.main import app


@pytest.mark.skipif("/me" not in app.openapi()["paths"], reason="the app has no GET /me")
def test_tool_returns_response_of_endpoint(alice: httpx.Client, bob: httpx.Client) -> None:
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "me"}}
    for client in (alice, bob):
        response = client.post("/mcp", json=call, headers={"Accept": "application/json"})
        assert response.json()["result"]["structuredContent"] == client.get("/me").json()
