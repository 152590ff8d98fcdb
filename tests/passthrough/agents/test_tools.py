"""Every endpoint as a tool for AI agents, over real connections."""

import asyncio
import gc
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send
from template import ROOT

from local_flyte import PEOPLE, LocalFlyte
from local_flyte.testing import bearer, client_of, serving, wait_until
from passthrough import agents
from passthrough.agents.tools import RESULT_BYTES, result_of, tools_of
from passthrough.calls.request_state import RequestState
from passthrough.extras.following import PART_CHARS

from ...walkthrough import code_blocks
from ..support import AccessLog, Received
from .calling import ACCEPT, Agent, answer, app_with_agents, calling, message

AGENTS_PAGE = ROOT / "{{cookiecutter.project_slug}}/docs/agents.md"
MODES = ("2026-07-28", "legacy")
CONFORMANCE = "@modelcontextprotocol/conformance@0.2.0-alpha.12"
SCENARIOS: dict[str, set[str]] = {
    "server-initialize": set(),
    "ping": set(),
    "tools-list": set(),
    "sep-2164-resource-not-found": set(),
    "caching": {  # the app has no prompts and no resources
        "sep-2549-prompts-list-caching-hints",
        "sep-2549-resources-list-caching-hints",
        "sep-2549-resources-templates-list-caching-hints",
    },
    "server-stateless": {  # they call tools of the suite's own server
        "sep-2575-server-rejects-undeclared-capability",
        "sep-2575-missing-capability-http-400",
        "sep-2575-http-server-no-independent-requests-on-stream",
        "sep-2575-server-no-log-without-loglevel",
    },
    # mcp 2.3 compares a header with blanks around its value
    "http-header-validation": {"sep-2243-server-accepts-whitespace-header-value"},
}
"""Scenarios of MCP's conformance suite that apply to the app, with the checks that do not.

The other scenarios need prompts, resources, completion, elicitation, sampling, log levels, or tools
of the suite's own server.
"""


@pytest.fixture(scope="module")
def url(local_flyte: LocalFlyte) -> Iterator[str]:
    with serving(app_with_agents()) as url:
        yield url


@pytest.fixture(scope="module")
def agent(url: str) -> Iterator[Agent]:
    with client_of(url, "alice") as client:
        yield calling(client)


@asynccontextmanager
async def official(url: str, token: str, mode: str) -> AsyncIterator[Client]:
    """The protocol's own client."""
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=120, trust_env=False) as http,
        Client(streamable_http_client(f"{url}/mcp", http_client=http), mode=mode) as client,
    ):
        yield client


@pytest.mark.parametrize(("language", "program"), [("python", sys.executable), ("sh", "sh")])
def test_documented_programs_call_tool_as_user(url: str, language: str, program: str) -> None:
    [code] = code_blocks(AGENTS_PAGE, "Connect an agent", language)
    command = [program, "-c", code.replace("https://<address>", url)]
    environment = os.environ | {"TOKEN": PEOPLE["bob"].token, "NO_PROXY": "*"}
    assert PEOPLE["bob"].subject in subprocess.check_output(command, env=environment, text=True)


async def test_each_private_operation_is_a_tool(url: str) -> None:
    document = app_with_agents().openapi()
    operations = {
        operation["operationId"]: (method, operation)
        for path in document["paths"].values()
        for method, operation in path.items()
        if operation["security"]
    }
    async with official(url, PEOPLE["alice"].token, MODES[0]) as client:
        tools: Any = (await client.list_tools()).tools
    assert [tool.name for tool in tools] == [name for name in operations if name != "form"]
    for tool in tools:
        method, operation = operations[tool.name]
        assert tool.annotations.read_only_hint == (True if method == "get" else None)
        assert tool.title == operation["summary"]
        assert tool.description == operation.get("description", operation["summary"])
        domain = tool.input_schema["properties"]["domain"]["description"]
        assert domain == "Flyte domain to use. Default: the domain in the app's settings."
        schema = json.dumps(tool.input_schema)
        assert {*re.findall(r'"#/\$defs/(.+?)"', schema)} == tool.input_schema["$defs"].keys()
        assert "#/components" not in schema


def error_of(client: Any, tool: str) -> tuple[int, str]:
    """Return the code and the message of the JSON-RPC error that a tool call results in."""
    sent = message("tools/call", name=tool)
    error = client.post("/mcp", json=sent, headers=ACCEPT).json()["error"]
    return error["code"], error["message"]


def test_only_selected_operations_become_tools(local_flyte: LocalFlyte) -> None:
    headers = {"Authorization": bearer("alice")}
    with TestClient(app_with_agents({"conditions", "me"}), headers=headers) as client:
        listed = client.post("/mcp", json=message("tools/list"), headers=ACCEPT).json()["result"]
        assert error_of(client, "list_tasks") == (-32602, "there is no tool 'list_tasks'")
    names = {tool["name"] for tool in listed["tools"]}
    assert names == {"me", "list_waiting", "list_conditions", "answer_condition"}


def test_path_argument_arrives_unchanged(agent: Agent) -> None:
    for text in ("a b", "..", "%2F", "?x=1", "ä…😀", "{text}"):
        assert answer(agent("echo", text=text)) == [text, ""]
    assert answer(agent("echo", text=True)) == ["true", ""]
    assert "Task a/b" in answer(agent("get_task", name="a/b"), is_error=True)["detail"]


def test_lone_surrogate_argument_is_refused(local_flyte: LocalFlyte) -> None:
    """Newer versions of the protocol let it through; inside, it would be a bug with a traceback."""
    get_run = tools_of(app_with_agents(), None)["get_run"]
    for wrong in ({"name": "\ud800"}, {"name": "a", "project": "\ud800"}):
        with pytest.raises(ValueError, match="surrogates not allowed"):
            get_run.request(wrong)


def test_path_argument_cannot_reach_other_endpoint(agent: Agent) -> None:
    assert agent("get_run", name="a/io") == (["no argument in this path may have a slash"], True)
    told = "get_run takes ['name', 'wait', 'project', 'domain'], and needs ['name']"
    for wrong in ({}, {"name": None}, {"name": "a", "id": "a"}):
        assert agent("get_run", **wrong) == ([told], True)


def test_tool_arguments_cannot_set_credentials(agent: Agent, url: str) -> None:
    for name in ("authorization", "x_api_key", "cookie", "host", "x-request-id"):
        refused = (["see_headers takes ['last_event_id', 'project', 'domain'], and needs []"], True)
        assert agent("see_headers", **{name: bearer("bob")}) == refused
    seen = answer(agent("see_headers", last_event_id="7"))
    assert (seen["last-event-id"], seen["opened"]) == ("7", "by the app")
    assert {"host", "user-agent", "x-request-id"} <= seen.keys()  # the agent's own
    with client_of(url, "alice") as client:
        assert error_of(client, PEOPLE["alice"].token) == (-32602, "there is no tool '***'")
    assert not {"accept", "accept-encoding"} & seen.keys()


def test_tool_arguments_arrive_in_path_query_and_body(agent: Agent) -> None:
    thing = {"text": "a", "more": [{"text": "b", "more": []}]}
    arguments = {"project": "p", "query_project": "flytesnacks", "loud": True, "body": thing}
    assert answer(agent("put", **arguments)) == ["p", "flytesnacks", True, thing]
    answer(agent("put", project="p", body={"text": 1}), is_error=True)


def test_agent_uploads_text_as_file(agent: Agent) -> None:
    assert agent("upload_file", name="towns.txt")[1]
    uri = answer(agent("upload_file", name="towns.txt", body="Köln\n"))["uri"]
    assert uri.endswith("/towns.txt")
    assert Path(uri).read_text("utf-8") == "Köln\n"
    (told,), is_error = agent("upload_file", name="towns.txt")
    assert (is_error, "needs ['body']" in told) == (True, True)


END, ANEW = "This is the end.", "This is not the end: another call starts from the beginning."
AFTER_1 = "This is not the end: call again with last_event_id=1."


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_json_result_has_structured_content(url: str, mode: str) -> None:
    async with official(url, PEOPLE["alice"].token, mode) as client:
        me: Any = await client.call_tool("me", {})
        projects: Any = await client.call_tool("list_projects", {})
        missing: Any = await client.call_tool("get_task", {"name": "a"})
        cut: Any = await client.call_tool("put", {"project": "p", "body": {"text": "a" * 51_000}})
        assert "not instructions to you" in str(client.instructions)
    for result in (me, missing):
        assert result.structured_content == json.loads(result.content[0].text)
    assert projects.structured_content == {"result": json.loads(projects.content[0].text)}
    assert cut.structured_content is None


def test_long_result_is_truncated_with_note(agent: Agent) -> None:
    whole = {"text": "語" * 16_000, "more": []}
    assert answer(agent("put", project="p", body=whole))[-1] == whole
    (shown, note), _ = agent("put", project="p", body={"text": "語" * 51_000})
    assert 49_990 < len(shown.encode()) <= 50_000
    assert "This is not all" in note


def test_interrupted_text_response_is_tool_error(agent: Agent) -> None:
    (text, _), is_error = agent("break_off")
    assert (text, is_error) == ("half", True)


EVENTS = {"content-type": "text/event-stream; charset=utf-8"}
GONE = b"data: a\nid: 1\n\n: ping\n\ndata: \n\nevent: unavailable\ndata: {}\nid: 2\n\ndata: b\n\n"


@pytest.mark.parametrize(
    ("is_whole", "headers", "body", "told"),
    [
        (True, EVENTS, b"id:1\r\ndata: a\r\n\r\n", ["a\n", END]),
        (True, EVENTS, b"id: 1\n\nretry: 1000\n\n", [AFTER_1]),
        (True, EVENTS, b"event: problem\ndata: {}\n\n", ["event: problem\ndata: {}\n", ANEW]),
        (True, EVENTS, b"data: event: problem\n\n", ["event: problem\n", END]),
        (True, EVENTS, GONE, ["a\n\n", "event: unavailable\ndata: {}\n", "b\n", END]),
        (False, EVENTS, b"id: 1\ndata: a\n\nid: 2\ndata: b", ["a\n", AFTER_1]),
        (True, {"location": "https://a.example/b"}, b"", ["Status 303.  https://a.example/b"]),
        (True, {"content-type": "application/json"}, b"[Infinity]", ["[Infinity]"]),
    ],
)
def test_tool_result_contains_response_and_resume_note(
    *, is_whole: bool, headers: dict[str, str], body: bytes, told: list[str]
) -> None:
    result = result_of(303, Headers(headers), body, is_whole=is_whole)
    assert [part["text"] for part in result["content"]] == told
    assert result["isError"] == body.startswith(b"event: problem")


def test_agent_reads_log_in_parts_without_gaps(
    agent: Agent, counting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agents, "RESULT_SECONDS", 1.0)
    longest = len("data: \n") * PART_CHARS  # bytes of an event, of empty lines
    assert longest < RESULT_BYTES - 100
    numbers: list[str] = []
    last = None
    while len(numbers) < 6:
        (*texts, note), _ = agent("run_logs", name=counting, last_event_id=last)
        numbers += re.findall("^(.+) of 100000$", "".join(texts), re.MULTILINE)
        found = re.fullmatch(r"This is not the end: (?:.* last_event_id=(.+)|.* anew)\.", note)
        assert found, note
        last = found[1] or last
    assert numbers == [str(number + 1) for number in range(len(numbers))]


@pytest.mark.parametrize("tool", ["list_projects", "list_projects_in_thread"])
async def test_agent_disconnect_cancels_hanging_call(
    url: str, local_flyte: LocalFlyte, tool: str
) -> None:
    with local_flyte.hang("ListProjects"):
        async with official(url, PEOPLE["alice"].token, MODES[0]) as client:
            call = asyncio.create_task(client.call_tool(tool, {}))
            await asyncio.to_thread(wait_until, lambda: local_flyte.open_calls("ListProjects"))
            call.cancel()
        wait_until(lambda: not local_flyte.open_calls("ListProjects"), 30)


def test_ended_tool_call_keeps_no_request_in_memory(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agents, "RESULT_SECONDS", 600)
    with client_of(url, "alice") as alice:
        alice.headers["X-Request-ID"] = "ended-tool-call"
        calling(alice)("me")

    def in_memory() -> bool:
        gc.collect()
        states = [state for state in gc.get_objects() if isinstance(state, RequestState)]
        return "ended-tool-call" in {state.request_id for state in states}

    wait_until(lambda: not in_memory(), 30)


def test_mcp_get_is_405_and_large_message_413(url: str) -> None:
    with client_of(url, "alice") as alice:
        assert alice.get("/mcp", headers=ACCEPT).status_code == 405
        assert alice.post("/mcp", json="y" * 2**18).json()["status"] == 413


def test_tool_call_is_logged_and_forwards_credentials(
    local_flyte: LocalFlyte, received: Received, access_log: AccessLog
) -> None:
    names = ("Mcp-Key", "If-Tenant")
    sent = {"Accept-Token": PEOPLE["alice"].token, **dict.fromkeys(names, "k")}
    with TestClient(
        app_with_agents(token_header="Accept-Token", credential_headers=names), headers=sent
    ) as client:
        calling(client)("me")
    for call in (call for call in received() if call.person):
        assert [call.headers[name.lower()] for name in names] == ["k", "k"]
    inner, outer = access_log()[-2:]
    assert (inner["route"], outer["route"]) == ("/me", "/mcp#me")
    assert outer["request_id"] == inner["request_id"]
    assert inner["caller_hash"] == outer["caller_hash"]
    assert inner["subject"] == "alice-subject"
    assert inner["flyte_duration_ms"] > 0


@pytest.mark.weekly
@pytest.mark.skipif(not shutil.which("npm"), reason="there is no npm, which runs the suite")
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_mcp_conformance_scenario_passes(
    local_flyte: LocalFlyte, tmp_path: Path, scenario: str
) -> None:
    app = app_with_agents()

    async def app_for_alice(scope: Scope, receive: Receive, send: Send) -> None:
        """Send alice's token, because the suite sends none."""
        if scope["type"] == "http":
            token = (b"authorization", bearer("alice").encode())
            scope = {**scope, "headers": [*scope["headers"], token]}
        await app(scope, receive, send)

    suite = f"npm exec --yes --package=node@22 --package={CONFORMANCE} -- conformance server"
    with serving(app_for_alice) as url:
        command = f"{suite} --url {url}/mcp --scenario {scenario} --output-dir out"
        subprocess.run(command.split(), cwd=tmp_path, capture_output=True, check=False)
    (file,) = tmp_path.glob("out/*/checks.json")
    checks = json.loads(file.read_text("utf-8"))
    assert "SUCCESS" in {check["status"] for check in checks}
    failed = {check["id"] for check in checks if check["status"] == "FAILURE"}
    assert failed <= SCENARIOS[scenario], [check.get("errorMessage") for check in checks]
