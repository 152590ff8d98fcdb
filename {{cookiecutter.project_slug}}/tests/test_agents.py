"""Endpoints as tools for AI agents (docs/agents.md). A test of a tool of yours can look like this."""

import httpx
import pytest

from app.main import app


@pytest.mark.skipif("/me" not in app.openapi()["paths"], reason="the app has no GET /me")
def test_tool_returns_response_of_endpoint(alice: httpx.Client, bob: httpx.Client) -> None:
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "me"}}
    for client in (alice, bob):
        answer = client.post("/mcp", json=call, headers={"Accept": "application/json"})
        assert answer.json()["result"]["structuredContent"] == client.get("/me").json()
