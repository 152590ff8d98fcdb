"""Every endpoint as a tool for AI agents: the official client calls them over real connections."""

import asyncio
import json
import logging
import os
import pkgutil
import re
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import httpx2
import jsonschema
import pytest
from anyio.from_thread import start_blocking_portal
from connectrpc.errors import ConnectError
from fastapi import APIRouter, Form, Header, HTTPException, Request, Response, WebSocket
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient
from mcp.client import Client
from mcp.client.auth.utils import extract_resource_metadata_from_www_auth
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import ProtectedResourceMetadata
from pydantic import BaseModel
from starlette.datastructures import Headers
from template import ROOT

import app.routers
from local_flyte import PEOPLE, Code, LocalFlyte, ReceivedCall, server
from local_flyte.testing import bearer, client_of, serving, wait_until
from passthrough.agents.serve import serve_agents
from passthrough.agents.sign_in import METADATA
from passthrough.agents.tools import JSON, result_of
from passthrough.application import App
from passthrough.calls.errors import StartError
from passthrough.dependencies import ProjectDomain
from passthrough.extras.action_log import PART_CHARS
from passthrough.limits import DEFAULTS, Limits
from passthrough.settings import Settings

from ..walkthrough import code_blocks
from .support import TASKS, build_app

MODES = ("2026-07-28", "legacy")
Agent = Callable[..., Any]
ROUTERS = [
    import_module(f"app.routers.{module.name}").router
    for module in pkgutil.iter_modules(app.routers.__path__)
]
TOO_LARGE = (b"[" * 40 + b"]" * 40, b'"' + b"y" * 2**18 + b'"')
ACCEPT = {"Accept": "application/json, text/event-stream"}
MOST = DEFAULTS.agent_result_bytes
router = APIRouter(tags=["own"])


class Thing(BaseModel):
    text: str = ""
    more: "list[Thing]" = []


@router.websocket("/echo/{text}")
async def echo_socket(websocket: WebSocket, text: str) -> None:
    """Not a tool, and not in the way of one."""


@router.get("/echo/{text}")
async def echo(text: str, request: Request) -> dict[str, Any]:
    return {"text": text, "query": str(request.query_params)}


@router.get("/echo/{text}/twice")
async def echo_twice(text: str) -> str:
    return 2 * text


@router.post("/{anything}")
async def catch_all(anything: str) -> str:
    return anything


@router.put("/in/{project}/{text}", dependencies=[ProjectDomain])
async def put_note(
    project: str, text: str, note: "Note", request: Request, author: str = ""
) -> list[Any]:
    return [project, text, note, author, str(request.query_params)]


@router.post("/new/beside")
async def beside(things: list[int], body: str) -> list[Any]:
    return [things, body]


@router.get("/items/{number:int}", include_in_schema=False)
async def item_by_number(number: int) -> int:
    return number


@router.get("/items/{number}")
async def item_by_name(number: str) -> str:
    return number


@router.get("/headers/all")
async def see_headers(
    request: Request,
    authorization: Annotated[str, Header()],
    x_api_key: Annotated[str, Header()] = "",
    last_event_id: Annotated[str, Header()] = "",
) -> dict[str, Any]:
    seen = {name: value for name, value in request.headers.items() if name != "authorization"}
    return {**seen, **request.scope["state"]}


@router.post("/things/{number}")
async def make(number: int, things: list[Thing], *, loud: bool = False) -> list[Thing]:
    """Return the list."""
    return [*things, Thing(text=f"{number} {loud}")]


async def half() -> AsyncIterator[str]:
    yield "half"
    raise ValueError("no other half")


@router.get("/responses/{kind}")
async def respond(kind: str) -> Response:
    if kind == "half":
        return StreamingResponse(half(), media_type="text/plain")
    raise HTTPException(401, "the other service says no")


@router.post("/new/thing")
async def make_thing(thing: Thing) -> Thing:
    return thing


class Note(BaseModel):
    author: str | None
    text: str | None = "nothing"


@router.post("/new/optional")
async def make_if_given(note: Note | None = None) -> Note | None:
    return note


@router.post("/form")
async def form(text: Annotated[str, Form()]) -> str:
    return text


def app_with_agents(only: set[str] | None = None, **changed: Any) -> App:
    app = build_app(**changed)
    for each in ROUTERS:
        app.include_router(each, dependencies=[ProjectDomain])
    app.include_router(router)
    serve_agents(app, only)
    return app


@pytest.fixture(scope="module")
def url(local_flyte: LocalFlyte) -> Iterator[str]:
    with serving(app_with_agents()) as url:
        yield url


@asynccontextmanager
async def agent_of(
    url: str, authorization: str = bearer("alice"), mode: str = MODES[0], **options: Any
) -> AsyncIterator[Client]:
    headers = {"Authorization": authorization} if authorization else {}
    async with (
        httpx2.AsyncClient(
            headers=headers, timeout=120, trust_env=False, verify=False, **options
        ) as http,
        Client(streamable_http_client(f"{url}/mcp", http_client=http), mode=mode) as agent,
    ):
        yield agent


@contextmanager
def calling(url: str, **options: Any) -> Iterator[Agent]:
    """Yield a function that calls a tool as alice, in one session."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(agent_of(url, **options)) as client,
    ):
        yield lambda tool, /, **arguments: portal.call(client.call_tool, tool, arguments)


@pytest.fixture(scope="module")
def agent(url: str) -> Iterator[Agent]:
    with calling(url) as call:
        yield call


def message(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def called(tool: str, headers: dict[str, str], **changed: Any) -> Any:
    """Return the result of a tool of an app with other settings."""
    with TestClient(app_with_agents(**changed)) as client:
        sent = message("tools/call", name=tool)
        return client.post("/mcp", json=sent, headers=ACCEPT | headers).json()["result"]


def texts(result: Any) -> list[str]:
    return [content.text for content in result.content]


# Which tools there are


async def test_the_tools_are_the_operations_that_need_credentials_and_take_json(url: str) -> None:
    document = app_with_agents().openapi()
    operations = {
        operation["operationId"]: (method, operation)
        for path in document["paths"].values()
        for method, operation in path.items()
        if operation["security"]
    }
    async with agent_of(url) as client:
        tools: Any = (await client.list_tools()).tools
    assert [tool.name for tool in tools] == [name for name in operations if name != "form"]
    for tool in tools:
        method, operation = operations[tool.name]
        assert tool.annotations.read_only_hint == (True if method == "get" else None)
        assert tool.title == operation["summary"]
        assert tool.description == operation.get("description", "")
        schema = tool.input_schema
        jsonschema.Draft202012Validator.check_schema(schema)
        used = {*re.findall(r'"#/\$defs/(.+?)"', json.dumps(schema))}
        assert used == schema.get("$defs", {}).keys()
        assert "#/components" not in json.dumps(schema)
        assert schema["additionalProperties"] is False


def test_a_list_of_operation_ids_and_tags_limits_the_tools(local_flyte: LocalFlyte) -> None:
    with TestClient(app_with_agents({"runs", "me"})) as client:
        client.headers |= {"Authorization": bearer("alice"), **ACCEPT}
        listed = client.post("/mcp", json=message("tools/list")).json()["result"]["tools"]
        other = client.post("/mcp", json=message("tools/call", name="list_tasks")).json()
    names = {tool["name"] for tool in listed}
    assert names >= {"me", "list_runs", "abort_run"}
    assert not names & {"list_tasks", "echo", "list_projects"}
    assert other["error"]["message"] == "Unknown tool"


def test_what_agents_cannot_be_offered_is_refused_at_the_start(local_flyte: LocalFlyte) -> None:
    with pytest.raises(StartError, match=r"there is no list_taks, off to offer.*list_tasks"):
        app_with_agents({"me", "list_taks", "off"})
    second, several = APIRouter(), APIRouter()
    second.delete("/echo")(echo)
    several.api_route("/two", methods=["GET", "POST"])(echo_twice)
    for more, told in (
        (second, r"GET /echo/{text} and DELETE /echo would be one operation, echo"),
        (several, r"GET, POST /two would be one operation"),
    ):
        with pytest.raises(StartError, match=told):
            serve_agents(build_app(*([router] if more is second else []), more))


# Calls


def test_an_agent_runs_a_task_waits_reads_and_aborts(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with calling(url, mode="legacy") as call:
        greeting = {"name": f"{TASKS}.greet", "inputs": {"name": "Ada"}, "wait": 100}
        run = call("run_task", **greeting).structured_content
        assert run["outputs"] == {"o0": "Hello, Ada."}
        assert run["executed_by"]["subject"] == "alice-subject"
        read = call("get_run_io", name=run["name"])
        assert read.structured_content["inputs"] == {"name": "Ada", "excited": False}
        assert json.loads(texts(read)[0]) == read.structured_content
        log, end = texts(call("run_logs", name=run["name"]))
        assert "greeting Ada" in log.splitlines()
        assert end == "This is the end."
        listed = call("list_runs", phase=["succeeded", "failed"], limit=9).structured_content
        assert run["name"] in [each["name"] for each in listed["result"]]
        run = call("run_task", name=f"{TASKS}.count", inputs={"to": 9999}).structured_content
        with monkeypatch.context() as patch:
            patch.setattr(Settings, "limits", Limits(agent_result_seconds=1.0))
            action, more = texts(call("watch_actions", name=run["name"]))
        assert json.loads(action.splitlines()[0].removeprefix("action: "))["name"] == "a0"
        assert more == "This is not the end: call again with the same arguments."
        assert not call("abort_run", name=run["name"], reason="enough").is_error
        assert call("get_run", name=run["name"], wait=60).structured_content["phase"] == "aborted"
        action, end = texts(call("watch_actions", name=run["name"]))
        assert json.loads(action.removeprefix("action: "))["phase"] == "aborted"
        assert end == "This is the end."


def test_an_agent_uploads_a_text_as_a_file(agent: Agent) -> None:
    uri = agent("upload_file", name="towns.txt", body="Köln\n").structured_content["uri"]
    assert uri.endswith("/towns.txt")
    assert Path(uri).read_text("utf-8") == "Köln\n"
    assert agent("upload_file", body={"no": "text"}).is_error


def test_a_path_argument_arrives_as_it_was_given(agent: Agent) -> None:
    for text in ("a b", "..", "%2F", "a%2e", "?x=1", "#x", "ä…😀", "{text}", "\\", "a;b", " "):
        assert agent("echo", text=text).structured_content == {"text": text, "query": ""}
    assert agent("echo", text=True).structured_content["text"] == "true"


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        *[("echo", {"text": text}) for text in ("a/twice", "../me", "", None, ["a"], {"a": 1})],
        ("echo", {}),
        ("make", {"number": 3, "loud": {"true": 1}, "body": []}),
        ("item_by_name", {"number": "5"}),
        ("catch_all", {"anything": "mcp"}),  # itself
        ("catch_all", {"anything": ".well-known/oauth-protected-resource/mcp"}),
    ],
)
def test_an_argument_never_leads_to_another_endpoint(
    agent: Agent, tool: str, arguments: dict[str, Any]
) -> None:
    result = agent(tool, **arguments)
    assert result.is_error
    assert "the arguments are: " in result.structured_content["detail"]


def test_of_arguments_with_one_name_the_later_one_begins_with_its_place(agent: Agent) -> None:
    places = {"project": "p", "query_project": "flytesnacks", "text": "c"}
    note = {"author": "a", "field_text": "b", "query_author": "e"}
    seen = agent("put_note", **places, **note).structured_content["result"]
    assert seen[:-1] == ["p", "c", {"author": "a", "text": "b"}, "e"]
    assert sorted(seen[-1].split("&")) == ["author=e", "project=flytesnacks"]
    seen = agent("beside", body=[1], query_body="b").structured_content
    assert seen == {"result": [[1], "b"]}


def test_no_argument_is_a_credential(agent: Agent) -> None:
    for name in ("authorization", "x_api_key", "cookie", "host", "x-request-id"):
        refused = agent("see_headers", **{name: bearer("bob")}).structured_content
        assert "the arguments are: last_event_id (header);" in refused["detail"]
    many = {f"{number}{'x' * 1000}": 0 for number in range(200)}
    assert len(texts(agent("see_headers", **many))[0]) < 1000
    seen = agent("see_headers", last_event_id="7").structured_content
    assert (seen["last-event-id"], seen["opened"]) == ("7", "by the app")
    assert {"host", "user-agent", "x-request-id"} <= seen.keys()  # the agent's own
    assert not {"accept", "content-type", "mcp-protocol-version"} & seen.keys()


def test_configured_credentials_arrive_whatever_they_are_called(
    local_flyte: LocalFlyte, received: Callable[[], list[ReceivedCall]]
) -> None:
    sent = {"Accept-Token": PEOPLE["alice"].token, "Mcp-Key": "k", "If-Tenant": "t"}
    names = ("Mcp-Key", "If-Tenant")
    result = called("me", sent, token_header="Accept-Token", credential_headers=names)
    assert result["structuredContent"]["subject"] == "alice-subject"
    assert all([call.headers[name.lower()] for name in names] == ["k", "t"] for call in received())


def test_a_body_is_sent_by_its_fields_or_as_a_whole_with_as_many_bytes(agent: Agent) -> None:
    things = [{"text": "a", "more": [{"text": "b", "more": []}]}]
    made = agent("make", number=3, loud=True, body=things)
    assert made.structured_content["result"] == [*things, {"text": "3 True", "more": []}]
    assert agent("make_thing").structured_content == {"text": "", "more": []}
    assert not agent("make_thing", text="語" * 80_000).is_error
    nobody = {"author": None, "text": None}
    assert agent("make_if_given", **nobody).structured_content == nobody
    assert agent("make_if_given").structured_content == {"result": None}
    assert agent("put_note", project="p", text="c").is_error


@pytest.mark.parametrize("letter", ["x", "語"])
def test_what_is_too_long_is_cut_and_says_so(agent: Agent, letter: str) -> None:
    whole = {"text": letter * (48_000 // len(letter.encode())), "more": []}
    result = agent("make_thing", **whole)
    assert result.structured_content == json.loads(texts(result)[0]) == whole
    [shown, note] = texts(result := agent("make_thing", text=letter * 51_000))
    assert 49_990 < len(shown.encode()) <= 50_000
    assert result.structured_content is None
    assert "This is not all" in note


def test_half_a_text_is_an_error_and_an_endpoints_own_401_a_result(agent: Agent) -> None:
    result = agent("respond", kind="half")
    assert (texts(result)[0], result.is_error) == ("half", True)
    result = agent("respond", kind="refusal")
    assert result.is_error
    assert result.structured_content["detail"] == "the other service says no"


def test_results_that_are_no_json_are_text_or_described() -> None:
    for status, headers, body, text in (
        (200, {"content-type": "image/png"}, b"\0\0", "200 OK image/png "),
        (303, {"location": "https://a.example/b"}, b"", "303 See Other  https://a.example/b"),
        (200, {"content-type": JSON}, b'{"is": Infinity}', '{"is": Infinity}'),
    ):
        result = result_of(status, Headers(headers), body, is_whole=True)
        assert (result["content"], result["isError"]) == ([{"type": "text", "text": text}], False)
        assert "structuredContent" not in result


# Streams


def test_a_log_is_read_in_parts_without_missing_or_repeating_a_line(
    agent: Agent, counting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Settings, "limits", Limits(agent_result_seconds=1.0))
    # its longest event, of empty lines
    assert len("data: \n") * PART_CHARS < MOST - 100
    lines: list[str] = []
    last = None
    while len(lines) < 6:
        log, note = texts(agent("run_logs", name=counting, last_event_id=last))
        lines += log.splitlines()
        found = re.fullmatch(r"This is not the end: call again with (?:last_.*=(.+)|.+)\.", note)
        assert found, note
        last = found[1] or last
    numbers = [line for line in lines if " of 100000" in line]
    assert numbers == [f"{number + 1} of 100000" for number in range(len(numbers))]


END, AGAIN = "This is the end.", "This is not the end: call again with "
GONE = "This is the end, and what is unavailable is gone."


def test_an_agent_learns_at_once_that_the_log_of_an_action_that_has_ended_is_gone(
    agent: Agent, greeting: str, local_flyte: LocalFlyte
) -> None:
    local_flyte.delete_pods()
    begun = time.monotonic()
    assert texts(agent("run_logs", name=greeting)) == ['unavailable: {"attempt": 1}', GONE]
    assert time.monotonic() - begun < 2


@pytest.mark.parametrize(
    ("is_whole", "stream", "shown", "note"),
    [
        (True, b"id: 1\ndata: a\n\n", "a", END),
        (True, b"data:a\r\nid:1\r\n\r\n: ping\r\n\r\n", "a", END),
        (True, b"id: 1\ndata: a\n\nretry: 1000\n\n", "a", f"{AGAIN}last_event_id=1"),
        (True, b"data: a\n\nevent: problem\ndata: {}\n\n", "a\nproblem: {}", f"{AGAIN}the same"),
        (True, b"event: attempt\ndata: 2\nid: 2-0\n\n", "attempt: 2", END),
        (True, b"data: a\n\nevent: unavailable\ndata: 1\n\n", "a\nunavailable: 1", GONE),
        (True, b"data: event: problem\n\n", "event: problem", END),
        (True, b"id: 1\ndata: a\n\nid: 2\ndata: b", "a", END),
        (False, b"id: 1\ndata: ab", "", f"{AGAIN}the same arguments."),
        (False, b"data: a\n\ndata: b", "a", f"{AGAIN}the same arguments."),
        (False, b"data: a\n\n" + b":" * (MOST - 9), "a", "This is not all: "),
    ],
)
def test_events_are_told_as_text(*, is_whole: bool, stream: bytes, shown: str, note: str) -> None:
    kind = Headers({"content-type": "text/event-stream; charset=utf-8"})
    result = result_of(200, kind, stream, is_whole=is_whole)
    text, told = [each["text"] for each in result["content"]]
    assert (result["isError"], text) == (b"\nevent: problem" in stream, shown)
    assert told.startswith(note)


# Callers, and what is left of a call


async def test_forty_agents_at_once_are_each_their_own_person(
    url: str, local_flyte: LocalFlyte
) -> None:
    crowd = [local_flyte.add_person(f"agent-{number}") for number in range(40)]

    async def work(number: int) -> None:
        person = crowd[number]
        async with agent_of(url, f"Bearer {person.token}", MODES[number % 2]) as agent:
            for _ in range(3):
                seen = (await agent.call_tool("me", {})).structured_content
                assert seen["subject"] == person.subject

    await asyncio.gather(*map(work, range(40)))


@pytest.mark.parametrize("mode", MODES)
async def test_an_agent_that_leaves_during_a_hanging_call_leaves_nothing_at_flyte(
    url: str, local_flyte: LocalFlyte, mode: str
) -> None:
    def hangs() -> int:
        return local_flyte.open_calls("ListProjects")

    with local_flyte.hang("ListProjects"):
        async with agent_of(url, mode=mode) as client:
            calling = asyncio.create_task(client.call_tool("list_projects", {}))
            await asyncio.to_thread(wait_until, hangs)
            calling.cancel()
        wait_until(lambda: not hangs(), seconds=20)


def test_a_call_that_takes_too_long_is_answered_as_the_endpoint_would(
    local_flyte: LocalFlyte,
) -> None:
    with local_flyte.hang("ListProjects"):
        result = called("list_projects", {"Authorization": bearer("alice")}, flyte_timeout=1.0)
    assert (result["isError"], result["structuredContent"]["status"]) == (True, 504)


def test_the_page_shows_how_to_call_a_tool(url: str, tmp_path: Path) -> None:
    page = ROOT / "{{cookiecutter.project_slug}}/docs/agents.md"
    environment = {**os.environ, "TOKEN": PEOPLE["bob"].token}
    [code] = code_blocks(page, "Connect an agent", "sh")
    (file := tmp_path / "call").write_text(code.replace("https://<address>", url))
    assert "bob-subject" in subprocess.check_output(["sh", file], env=environment, text=True)


# The protocol, and what is logged


def test_no_agent_can_subscribe_and_nobody_waits_for_one_who_tries(url: str) -> None:
    """The package opens a stream for this message; no token is checked before."""
    known = {"protocolVersion": "2026-07-28", "clientCapabilities": {}}
    meta = {f"io.modelcontextprotocol/{name}": value for name, value in known.items()}
    listen = message("subscriptions/listen", notifications={}, _meta=meta)
    headers = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "subscriptions/listen"}
    with client_of(url, "expired") as stranger:
        refused = stranger.post("/mcp", json=listen, headers={**ACCEPT, **headers})
    assert refused.json()["error"]["code"] == -32601, refused.text


def test_anything_but_a_call_is_refused(url: str, caplog: pytest.LogCaptureFixture) -> None:
    headers = {**ACCEPT, "MCP-Protocol-Version": "2025-06-18"}
    batch = json.dumps([message("tools/call", name="me")]).encode()
    with client_of(url, "alice") as alice:
        for method in ("GET", "DELETE"):
            refused = alice.request(method, "/mcp")
            assert (refused.status_code, refused.headers["Allow"]) == (405, "POST")
        headers["Content-Type"] = "text/plain"
        assert alice.post("/mcp", content=b"{}", headers=headers).status_code == 400
        headers["Content-Type"] = JSON
        large = [b'{"a": ' + value + b"}" for value in TOO_LARGE]
        for content in (b"{", b"[" * 100_000, b'{"a": "\\ud800"}', b"3", batch, *large):
            refused = alice.post("/mcp", content=content, headers=headers)
            status = 413 if content in large else 400
            assert (refused.status_code, refused.json()["status"]) == (status, status)
        for call, code in (
            (message("tools/call", name=3), -32602),
            (message("tools/call", name="me", arguments=3), -32602),
            (message("resources/list"), -32601),
        ):
            refused = alice.post("/mcp", json=call, headers=headers)
            assert refused.json()["error"]["code"] == code
    assert "Traceback" not in caplog.text


def test_the_access_log_names_the_tool_and_both_lines_have_one_request_id(
    local_flyte: LocalFlyte, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "app.access")
    monkeypatch.setattr(logging.getLogger("app.access"), "propagate", True)
    called("me", {"Authorization": bearer("alice")})
    records = [record for record in caplog.records if record.name == "app.access"]
    inner, outer = (vars(record)["fields"] for record in records)
    assert (inner["route"], outer["route"]) == ("/me", "/mcp#me")
    assert outer["request_id"] == inner["request_id"]
    assert (outer["status"], inner["status"]) == (200, 200)
    assert inner["subject"] == "alice-subject"
    assert inner["caller"] == outer["caller"]
    assert inner["flyte_ms"] > 0


# Sign-in


@pytest.mark.parametrize("person", [None, "expired"])
def test_without_valid_credentials_agents_learn_where_to_sign_in(
    url: str, person: str | None
) -> None:
    known = {"protocolVersion": "2025-06-18", "capabilities": {}}
    start = message("initialize", **known, clientInfo={"name": "agent", "version": "1"})
    with client_of(url, person) as client:
        for sent in (start, message("tools/call", name="me")):
            refused = client.post("/mcp", json=sent, headers=ACCEPT)
            assert refused.status_code == 401
            place = f'Bearer resource_metadata="{url}{METADATA}"'
            assert refused.headers["WWW-Authenticate"] == place
        assert client.get("/me").headers["WWW-Authenticate"] == "Bearer"
        forwarded = {**ACCEPT, "Host": "app.example"}
        refused = client.post("/mcp", json=start, headers=forwarded)
        assert f'"https://app.example{METADATA}"' in refused.headers["WWW-Authenticate"]
        for host in ("[", 'a"b', "é", ""):
            odd = client.post("/mcp", json=start, headers=[(b"Host", host.encode())])
            assert odd.status_code in {400, 401}, host


@pytest.mark.parametrize("public_url", [None, "https://api.example:8443/flyte"])
def test_agents_are_served_under_a_prefix_and_sign_in_where_the_settings_say(
    local_flyte: LocalFlyte, public_url: str | None
) -> None:
    issuer = "https://sign-in.example"
    app = app_with_agents(public_url=public_url, oauth_issuer=issuer)
    with serving(app, root_path="/pre") as url:
        known = public_url or f"{url}/pre"
        with client_of(url, None) as client:
            with httpx2.Client(trust_env=False) as other:
                refused = other.post(f"{url}/mcp", headers=ACCEPT)
            assert extract_resource_metadata_from_www_auth(refused) == f"{known}{METADATA}"
            told = ProtectedResourceMetadata.model_validate_json(client.get(METADATA).text)
        assert str(told.resource) == f"{known}/mcp"
        assert [*map(str, told.authorization_servers)] == [issuer]
        with calling(url) as call:
            assert call("me").structured_content["subject"] == "alice-subject"


def test_everybody_may_read_where_to_sign_in_and_flyte_is_asked_once(
    url: str, local_flyte: LocalFlyte, received: Callable[[], list[ReceivedCall]]
) -> None:
    with client_of(url, None) as client:
        client.get(METADATA)
        before = len(received())
        document = client.get(METADATA, headers={"Host": "app.example"}).json()
    assert document == {
        "resource": "https://app.example/mcp",
        "authorization_servers": [local_flyte.url],
        "scopes_supported": ["all"],
        "bearer_methods_supported": ["header"],
        "resource_name": "FastAPI",
    }
    assert len(received()) == before


def test_where_nobody_says_where_to_sign_in_the_setting_is_named(
    local_flyte: LocalFlyte, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(**_: Any) -> None:
        raise ConnectError(Code.UNIMPLEMENTED, "")

    monkeypatch.setattr(
        server, "auth_service_pb2", SimpleNamespace(GetOAuth2MetadataResponse=unknown)
    )
    with TestClient(app_with_agents()) as client:
        assert "OAUTH_ISSUER" in client.get(METADATA).text
