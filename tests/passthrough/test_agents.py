"""Every endpoint as a tool for AI agents: the official client calls them over real connections."""

import asyncio
import gc
import json
import logging
import pkgutil
import re
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from importlib import import_module
from types import SimpleNamespace
from typing import Annotated, Any
from urllib.parse import parse_qs, urlsplit

import httpx
import httpx2
import jsonschema
import pytest
from fastapi import (
    APIRouter,
    BackgroundTasks,
    FastAPI,
    Form,
    Header,
    HTTPException,
    Request,
    Response,
    WebSocket,
)
from fastapi.responses import RedirectResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from mcp import MCPError
from mcp.client import Client
from mcp.client.auth import AuthorizationCodeResult, OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientMetadata
from pydantic import BaseModel
from starlette.types import ASGIApp, Receive, Scope, Send

import app.routers
from local_flyte import PEOPLE, Code, LocalFlyte, ReceivedCall
from local_flyte.testing import bearer, client_of, serving, wait_until
from passthrough.application import App
from passthrough.dependencies import ProjectDomain
from passthrough.requests import agents
from passthrough.requests.agents import serve_agents
from passthrough.requests.tools import Answer

from .support import TASKS, build_app

MODES = ("2026-07-28", "legacy")
each_mode = pytest.mark.parametrize("mode", MODES)
ROUTERS = [
    import_module(f"app.routers.{module.name}").router
    for module in pkgutil.iter_modules(app.routers.__path__)
]
router = APIRouter(tags=["own"])
finished: list[str] = []
may_finish = threading.Event()


inside = ContextVar("inside", default=0)


class Counting:
    """Middleware of an owner that keeps something in a context variable."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        inside.set(inside.get() + 1)
        await self.app(scope, receive, send)


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


@router.get("/headers/all")
async def see_headers(
    request: Request,
    authorization: Annotated[str, Header()],
    x_api_key: Annotated[str, Header()] = "",
    last_event_id: Annotated[str, Header()] = "",
) -> dict[str, str]:
    return {name: value for name, value in request.headers.items() if name != "authorization"}


@router.post("/things/{number}")
async def make(number: int, things: list[Thing], *, loud: bool = False) -> list[Thing]:
    """Return the list."""
    return [*things, Thing(text=f"{number} {loud}")]


@router.get("/large/{kind}")
async def large(kind: str) -> Response:
    value: Any = {"texts": ["x" * 900] * 900, "more": {"long": "y" * 90_000}, "small": [1, 2]}
    content = json.dumps(value) if kind == "json" else "z" * 90_000
    media_type = "application/json" if kind == "json" else "text/plain"
    return Response(
        content if kind != "file" else b"\0" * 9,
        media_type="image/png" if kind == "file" else media_type,
    )


@router.post("/new/thing")
async def make_thing(thing: Thing) -> Thing:
    return thing


@router.get("/denied")
async def denied() -> None:
    raise HTTPException(401, "the other service says no")


@router.get("/moved")
async def moved() -> RedirectResponse:
    return RedirectResponse("https://store.example/report", 303)


@router.post("/later/{name}")
async def later(name: str, tasks: BackgroundTasks) -> str:
    async def finish() -> None:
        await asyncio.to_thread(may_finish.wait)
        finished.append(name)

    tasks.add_task(finish)
    return "soon"


@router.get("/stuck")
async def stuck() -> None:
    await asyncio.Event().wait()


@router.get("/opened")
async def opened(request: Request) -> list[str]:
    request.state.opened.append("by the request")
    return [*request.state.opened]


@router.get("/depth")
async def depth() -> int:
    return inside.get()


@router.post("/form")
async def form(text: Annotated[str, Form()]) -> str:
    return text


@router.get("/ticks", response_class=EventSourceResponse)
async def ticks(last_event_id: Annotated[int, Header()] = 0) -> AsyncIterator[ServerSentEvent]:
    for number in range(last_event_id + 1, 4):
        yield ServerSentEvent(id=str(number), raw_data=f"line {number}\nof two")
    if last_event_id == 3:
        yield ServerSentEvent(id="4", raw_data="x" * 90_000)
    if last_event_id in (3, 4):
        yield ServerSentEvent(id="5", raw_data="after it")
    if last_event_id < 5:
        await asyncio.Event().wait()
    raise ValueError("no more ticks")


def app_with_agents(only: set[str] | None = None, **changed: Any) -> App:
    app = build_app(**changed)
    for each in ROUTERS:
        app.include_router(each, dependencies=[ProjectDomain])
    app.include_router(router)
    serve_agents(app, only)
    app.add_middleware(Counting)
    connected = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        async with connected(app):
            yield {"opened": ["at start-up"]}

    app.router.lifespan_context = lifespan
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


def with_agent(url: str, work: Callable[[Client], Coroutine[Any, Any, Any]], **options: Any) -> Any:
    async def run() -> Any:
        async with agent_of(url, **options) as agent:
            return await work(agent)

    return asyncio.run(run())


def called(url: str, tool: str, /, **arguments: Any) -> Any:
    """Return the result of a single tool call by alice."""
    return with_agent(url, lambda agent: agent.call_tool(tool, arguments))


def texts(result: Any) -> list[str]:
    return [content.text for content in result.content]


# Which tools there are


@each_mode
def test_the_tools_are_the_operations_that_need_credentials_and_take_json(
    url: str, mode: str
) -> None:
    document = app_with_agents().openapi()
    operations = {
        operation["operationId"]: (method, operation)
        for path in document["paths"].values()
        for method, operation in path.items()
        if "security" in operation
    }
    tools = with_agent(url, lambda agent: agent.list_tools(), mode=mode).tools
    assert [tool.name for tool in tools] == [name for name in operations if name != "form"]
    for tool in tools:
        method, operation = operations[tool.name]
        assert tool.annotations.read_only_hint == (True if method == "get" else None)
        assert (tool.title, tool.description) == (
            operation["summary"],
            operation.get("description", ""),
        )
        schema = tool.input_schema
        jsonschema.Draft202012Validator.check_schema(schema)
        used = {*re.findall(r'"#/\$defs/(.+?)"', json.dumps(schema))}
        assert used == schema.get("$defs", {}).keys()
        assert "#/components" not in json.dumps(schema)
        assert schema["additionalProperties"] is False
    destructive = {tool.name for tool in tools if tool.annotations.destructive_hint}
    assert "abort_run" in destructive
    assert "run_task" not in destructive


def test_the_list_of_the_apps_own_tools_is_short(local_flyte: LocalFlyte) -> None:
    """An agent reads it before it does anything."""
    app = build_app()
    for each in ROUTERS:
        app.include_router(each, dependencies=[ProjectDomain])
    serve_agents(app)
    with serving(app) as url:
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        with client_of(url, "alice") as client:
            listed = client.post("/mcp", json=body, headers={"Accept": "application/json"}).json()
    assert len(listed["result"]["tools"]) >= 12
    assert len(json.dumps(listed["result"]["tools"])) <= 24_000


def test_a_list_of_operation_ids_and_tags_limits_the_tools(local_flyte: LocalFlyte) -> None:
    async def look(agent: Client) -> None:
        tools = (await agent.list_tools()).tools
        assert {tool.name for tool in tools} >= {"me", "list_runs", "abort_run"}
        assert not {tool.name for tool in tools} & {"list_tasks", "echo", "list_projects"}
        with pytest.raises(MCPError, match="Unknown tool"):
            await agent.call_tool("list_tasks", {})

    with serving(app_with_agents({"runs", "me"})) as url:
        with_agent(url, look)


def test_the_package_is_not_imported_before_an_agent_calls() -> None:
    code = "import sys, passthrough.requests.agents; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert "passthrough.requests.agents" in loaded
    assert not {"mcp", "mcp_types"} & {*loaded}


# Calls


def test_an_agent_runs_a_task_waits_reads_and_aborts(url: str) -> None:
    async def work(agent: Client) -> None:
        run = (
            await agent.call_tool(
                "run_task", {"name": f"{TASKS}.greet", "inputs": {"name": "Ada"}, "wait": 100}
            )
        ).structured_content
        assert run["outputs"] == {"o0": "Hello, Ada."}
        assert run["executed_by"]["subject"] == "alice-subject"
        read = await agent.call_tool("get_run_io", {"name": run["name"]})
        assert read.structured_content["inputs"] == {"name": "Ada", "excited": False}
        assert json.loads(texts(read)[0]) == read.structured_content
        log, end = texts(await agent.call_tool("run_logs", {"name": run["name"]}))
        assert "greeting Ada" in log.splitlines()
        assert end == "This is the end."
        listed = await agent.call_tool("list_runs", {"phase": ["succeeded", "failed"], "limit": 9})
        assert run["name"] in [each["name"] for each in listed.structured_content["result"]]
        run = (
            await agent.call_tool("run_task", {"name": f"{TASKS}.count", "inputs": {"to": 9999}})
        ).structured_content
        aborted = await agent.call_tool("abort_run", {"name": run["name"], "reason": "enough"})
        assert not aborted.is_error
        ended = await agent.call_tool("get_run", {"name": run["name"], "wait": 60})
        assert ended.structured_content["phase"] == "aborted"

    with_agent(url, work, mode="legacy")


def test_wrong_inputs_can_be_corrected_from_the_messages_alone(url: str) -> None:
    async def work(agent: Client) -> None:
        arguments: dict[str, Any] = {"task": "greet", "input": {"nam": "Ada"}}
        result = await agent.call_tool("run_task", arguments)
        assert result.is_error
        problem = result.structured_content
        assert {tuple(each["location"]) for each in problem["errors"]} == {
            ("task",),
            ("input",),
            ("name",),
        }
        assert "the arguments are: name, wait, " in problem["errors"][0]["detail"]
        arguments = {"name": "greet", "inputs": {"nam": "Ada"}, "wait": "long"}
        problem = (await agent.call_tool("run_task", arguments)).structured_content
        assert problem["status"] == 404
        assert "greet" in problem["detail"]
        found = (await agent.call_tool("list_tasks", {})).structured_content["result"]
        [arguments["name"]] = [t["name"] for t in found if t["name"].endswith(".greet")]
        problem = (await agent.call_tool("run_task", arguments)).structured_content
        assert problem["errors"][0]["location"] == ["query", "wait"]
        arguments["wait"] = 0
        problem = (await agent.call_tool("run_task", arguments)).structured_content
        assert problem["errors"] == [
            {"location": ["inputs", "nam"], "detail": "the task has no such input"},
            {"location": ["inputs", "name"], "detail": "must be given"},
        ]
        arguments["inputs"] = {"name": "Ada"}
        result = await agent.call_tool("run_task", arguments)
        assert result.structured_content["task"] == arguments["name"]

    with_agent(url, work)


@pytest.mark.parametrize(
    "text", ["a b", "..", ".", "%2F", "a%2e", "?x=1", "#x", "ä…😀", "{text}", "\\", "a;b", " "]
)
def test_a_path_argument_arrives_as_it_was_given(url: str, text: str) -> None:
    assert called(url, "echo", text=text).structured_content == {"text": text, "query": ""}


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("echo", {"text": "a/twice"}),  # another operation
        ("echo", {"text": "../me"}),
        ("echo", {"text": ""}),
        ("echo", {"text": None}),
        ("echo", {}),
        ("echo", {"text": ["a"]}),
        ("catch_all", {"anything": "mcp"}),  # itself
        ("catch_all", {"anything": ".well-known/oauth-protected-resource/mcp"}),
        ("see_headers", {"last_event_id": "1\r\nCookie: flyte_at=x"}),
    ],
)
def test_an_argument_never_leads_to_another_endpoint(
    url: str, tool: str, arguments: dict[str, Any]
) -> None:
    result = called(url, tool, **arguments)
    assert result.is_error
    assert result.structured_content["errors"][0]["location"] == [*(arguments or {"text": ""})]


@pytest.mark.parametrize("header", ["authorization", "x_api_key", "cookie", "host", "x-request-id"])
def test_no_argument_is_a_credential(url: str, header: str) -> None:
    tools = with_agent(url, lambda agent: agent.list_tools()).tools
    [tool] = [each for each in tools if each.name == "see_headers"]
    assert tool.input_schema["properties"].keys() == {"last_event_id"}
    result = called(url, "see_headers", **{header: bearer("bob")})
    assert result.structured_content["errors"][0]["location"] == [header]


def test_the_endpoint_sees_the_agents_headers_but_not_those_of_the_protocol(url: str) -> None:
    seen = called(url, "see_headers", last_event_id="7").structured_content
    assert seen["last-event-id"] == "7"
    assert {"host", "user-agent", "x-request-id"} <= seen.keys()
    assert not {"accept", "content-type", "content-length", "mcp-protocol-version"} & seen.keys()


def test_a_body_that_is_no_object_is_an_argument_of_its_own(url: str) -> None:
    things = [{"text": "a", "more": [{"text": "b", "more": []}]}]
    result = called(url, "make", number=3, loud=True, body=things)
    assert result.structured_content["result"] == [*things, {"text": "3 True", "more": []}]


def test_a_body_without_any_field_is_sent_as_an_empty_object(url: str) -> None:
    result = called(url, "make_thing")
    assert result.structured_content == {"text": "", "more": []}


def test_only_some_wrong_arguments_are_told(url: str) -> None:
    """Else a body of 1 MB would have an answer of 12 MB, and block the other requests."""
    wrong = {f"{number}{'x' * 1000}": 0 for number in range(900)}
    result = called(url, "me", **wrong)
    errors = result.structured_content["errors"]
    assert [each["location"][0][:2] for each in errors] == [name[:2] for name in [*wrong][:20]]
    assert len(texts(result)[0]) < 10_000


@pytest.mark.parametrize("letter", ["x", "語", "😀"])
def test_what_is_too_long_is_cut_and_says_how_to_get_the_rest(url: str, letter: str) -> None:
    """Lengths are in characters, as the agent sees them."""
    text = json.dumps(whole := {"text": letter * 39_000, "more": []}, separators=(",", ":"))
    result = called(url, "make_thing", **whole)
    assert result.structured_content == json.loads(texts(result)[0]) == whole
    [shown, note] = texts(result := called(url, "make_thing", text=letter * 41_000))
    assert shown == (text[:9] + letter * 41_000)[:40_000]
    assert result.structured_content is None
    assert "up to 40000 characters" in note
    assert "request POST /new/thing with the same credentials" in note
    for kind in ("json", "text"):
        shown, note = texts(called(url, "large", kind=kind))
        assert len(shown) == 40_000
        assert f"request GET /large/{kind} with the same credentials" in note


def test_arguments_need_no_more_bytes_than_in_the_agents_message(url: str) -> None:
    assert not called(url, "make_thing", text="語" * 300_000).is_error


def test_results_of_other_kinds_are_described(url: str) -> None:
    assert texts(called(url, "large", kind="file"))[0].startswith("200 OK, 9 bytes image/png")
    assert "303 See Other" in (told := texts(called(url, "moved"))[0])
    assert "https://store.example/report" in told


# Streams


def test_a_log_is_read_in_parts_without_missing_or_repeating_a_line(
    url: str, counting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agents, "PATIENCE", 1.0)

    async def work(agent: Client) -> list[str]:
        lines: list[str] = []
        last = None
        while len(lines) < 10:
            arguments = {"name": counting} | ({"last_event_id": last} if last else {})
            log, note = texts(await agent.call_tool("run_logs", arguments))
            lines += log.splitlines()
            found = re.fullmatch(r".*not the end.* again(?: with last_event_id=(.+))?", note)
            assert found, note
            last = json.loads(found[1] or "null")
        return lines

    numbers = [line for line in with_agent(url, work) if " of 100000" in line]
    assert numbers == [f"{number + 1} of 100000" for number in range(len(numbers))]


def test_a_stream_that_fails_is_an_error(
    url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(agents, "PATIENCE", 0.5)
    first = called(url, "ticks")
    assert texts(first)[0] == "line 1\nof two\nline 2\nof two\nline 3\nof two"
    assert texts(first)[1].endswith('with last_event_id="3"')
    assert not first.is_error
    assert called(url, "ticks", last_event_id="5").is_error


def test_a_long_event_is_cut_and_says_how_to_get_the_rest_and_those_after_it(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agents, "PATIENCE", 0.5)
    shown, note = texts(called(url, "ticks", last_event_id="3"))
    assert shown == "x" * 40_000
    assert "GET /ticks with the same credentials." in note
    assert note.endswith(
        'This is not the end. To go on after it, call again with last_event_id="4"'
    )
    assert texts(called(url, "ticks", last_event_id="4"))[0] == "after it"


# Callers, and what is left of a call


def test_forty_agents_at_once_are_each_their_own_person(url: str, local_flyte: LocalFlyte) -> None:
    crowd = [local_flyte.add_person(f"agent-{number}") for number in range(40)]
    local_flyte.clear_calls()

    async def work(number: int) -> None:
        person = crowd[number]
        async with agent_of(url, f"Bearer {person.token}", MODES[number % 2]) as agent:
            for _ in range(3):
                seen = (await agent.call_tool("me", {})).structured_content
                assert seen["subject"] == person.subject

    async def all_at_once() -> None:
        await asyncio.gather(*map(work, range(40)))

    asyncio.run(all_at_once())
    subjects = {f"Bearer {person.token}": person.subject for person in crowd}
    asked: dict[str, set[str]] = {}
    for call in local_flyte.calls:
        if call.headers.get("authorization") in subjects:
            asked.setdefault(call.headers["x-request-id"], set()).add(call.headers["authorization"])
    assert len(asked) >= 40 * 3
    assert all(len(callers) == 1 for callers in asked.values())


@each_mode
def test_an_agent_that_leaves_during_a_hanging_call_leaves_nothing_at_flyte(
    url: str, local_flyte: LocalFlyte, mode: str
) -> None:
    def hangs() -> int:
        return local_flyte.open_calls("ListProjects")

    async def leave(agent: Client) -> None:
        calling = asyncio.create_task(agent.call_tool("list_projects", {}))
        await asyncio.to_thread(wait_until, hangs)
        calling.cancel()

    with local_flyte.hang("ListProjects"):
        with_agent(url, leave, mode=mode)
        wait_until(lambda: not hangs(), seconds=20)


def test_a_call_that_takes_too_long_is_answered_as_the_endpoint_would(
    local_flyte: LocalFlyte,
) -> None:
    with serving(app_with_agents(flyte_timeout=2.0)) as url:
        result = called(url, "stuck")
    assert result.is_error
    assert result.structured_content["status"] == 504
    assert "this took too long" in result.structured_content["detail"]


def test_the_request_of_a_call_finds_nothing_of_the_one_around_it(url: str) -> None:
    assert called(url, "depth").structured_content == {"result": 1}


def test_a_call_finds_what_the_app_has_opened_at_start_up(url: str) -> None:
    assert called(url, "opened").structured_content["result"] == ["at start-up", "by the request"]


def test_a_response_is_not_kept_after_the_result(url: str) -> None:
    """Megabytes would wait for the garbage collector, after every call."""

    def kept() -> list[Answer]:
        return [each for each in gc.get_objects() if isinstance(each, Answer) and each.body]

    gc.collect()
    gc.disable()
    try:
        called(url, "large", kind="json")
        wait_until(lambda: not kept(), seconds=4)
    finally:
        gc.enable()


def test_background_tasks_go_on_after_the_result(url: str) -> None:
    assert called(url, "later", name="this").structured_content == {"result": "soon"}
    assert finished == []
    may_finish.set()
    wait_until(lambda: finished == ["this"])


def test_an_endpoints_own_401_is_its_result(url: str) -> None:
    result = called(url, "denied")
    assert result.is_error
    assert result.structured_content["detail"] == "the other service says no"


def test_a_page_of_another_site_cannot_use_its_visitors_cookie(
    url: str, received: Callable[[], list[ReceivedCall]]
) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "me"}}
    cookie = {"Cookie": PEOPLE["alice"].cookie, "Accept": "application/json"}
    with client_of(url, None) as browser:
        for headers in (
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
            {"Origin": "https://evil.example"},
            {"Origin": "null", "Content-Type": "text/plain"},
        ):
            assert browser.post("/mcp", json=body, headers=cookie | headers).status_code == 403
        assert not received()
        own = cookie | {"Sec-Fetch-Site": "same-origin", "Origin": url}
        answer = browser.post("/mcp", json=body, headers=own).json()
    assert answer["result"]["structuredContent"]["subject"] == "alice-subject"


# The protocol, and what is logged


def test_no_agent_can_subscribe_and_nobody_waits_for_one_who_tries(url: str) -> None:
    """The package opens a stream for this message; no token is checked before."""
    known = {"protocolVersion": "2026-07-28", "clientCapabilities": {}}
    meta = {f"io.modelcontextprotocol/{name}": value for name, value in known.items()}
    params = {"notifications": {}, "_meta": meta}
    message = {"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": params}
    headers = {
        "MCP-Protocol-Version": "2026-07-28",
        "Mcp-Method": "subscriptions/listen",
        "Accept": "application/json, text/event-stream",
    }
    with client_of(url, "expired") as stranger:
        refused = stranger.post("/mcp", json=message, headers=headers)
    assert refused.json()["error"]["code"] == -32601, refused.text


def test_anything_but_a_call_is_refused_by_the_protocol_or_with_4xx(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    def call(method: str = "tools/call", **params: Any) -> dict[str, Any]:
        return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}

    with client_of(url, "alice") as alice:
        alice.headers["Accept"] = "application/json, text/event-stream"
        for method in ("GET", "DELETE", "PUT"):
            refused = alice.request(method, "/mcp")
            assert (refused.status_code, refused.headers["Allow"]) == (405, "POST")
        for version in ("2026-07-28", "2025-06-18", "1999-01-01"):
            headers = {"MCP-Protocol-Version": version, "Content-Type": "application/json"}
            for content in (
                b"",
                b"{",
                b"[" * 100_000,
                b'{"a": "\\ud800"}',
                b"[]",
                b"3",
                json.dumps([call()]).encode(),
            ):
                refused = alice.post("/mcp", content=content, headers=headers)
                assert 400 <= refused.status_code < 500, content[:40]
            large = alice.post("/mcp", json=call(x="y" * 2**20), headers=headers)
            assert large.status_code == 413
            chunked = alice.post("/mcp", content=iter([b" " * 2**20] * 2), headers=headers)
            assert chunked.status_code == 413
        headers = {"MCP-Protocol-Version": "2025-06-18"}
        for params, code in (
            ({"name": "nothing"}, -32602),
            ({"name": 3}, -32602),
            ({"name": "me", "arguments": 3}, -32602),
            ({}, -32602),
        ):
            answer = alice.post("/mcp", json=call(**params), headers=headers).json()
            assert answer["error"]["code"] == code
        answer = alice.post("/mcp", json=call("resources/list"), headers=headers).json()
        assert answer["error"]["code"] == -32601
    assert "Traceback" not in caplog.text


def test_the_access_log_names_the_tool_and_both_lines_have_one_request_id(
    local_flyte: LocalFlyte, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "app.access")
    monkeypatch.setattr(logging.getLogger("app.access"), "propagate", True)
    with serving(app_with_agents(access_log="json")) as url:
        called(url, "me")
    lines = [json.loads(r.getMessage()) for r in caplog.records if r.name == "app.access"]
    [outer] = [line for line in lines if line["route"] == "/mcp#me"]
    [inner] = [line for line in lines if line["route"] == "/me"]
    assert outer["request_id"] == inner["request_id"]
    assert (outer["status"], inner["status"]) == (200, 200)
    assert inner["subject"] == "alice-subject"


def test_no_log_and_no_answer_has_a_token(
    url: str, local_flyte: LocalFlyte, caplog: pytest.LogCaptureFixture
) -> None:
    token = PEOPLE["alice"].token
    for name in ("", "mcp", "mcp.server", "flyte", "uvicorn", "passthrough", "app"):
        caplog.set_level(logging.DEBUG, name)

    async def work(agent: Client) -> None:
        await agent.list_tools()
        await agent.call_tool("me", {})
        local_flyte.fail_next("ListProjects", Code.UNKNOWN, times=9, message=f"no good: {token}")
        failed = await agent.call_tool("list_projects", {})
        local_flyte.fail_next("ListProjects", Code.UNKNOWN, times=0)
        assert failed.is_error
        assert token not in str(failed)
        await agent.call_tool("echo", {"text": token, token: token})

    for mode in MODES:
        with_agent(url, work, mode=mode)
    told = [
        record.getMessage()
        for record in caplog.records
        if not record.name.startswith(("mcp.client", "httpx2", "httpcore2"))  # the agent's own
    ]
    assert len(told) > 10
    assert not [line for line in told if token in line]


# Sign-in


def test_without_valid_credentials_agents_learn_where_to_sign_in(
    url: str, local_flyte: LocalFlyte, received: Callable[[], list[ReceivedCall]]
) -> None:
    body: dict[str, Any] = {"jsonrpc": "2.0", "id": 1}
    place = f'Bearer resource_metadata="{url}/.well-known/oauth-protected-resource/mcp"'
    headers = {"Accept": "application/json"}
    start = {
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "agent", "version": "1"},
        },
    }
    call = {"method": "tools/call", "params": {"name": "me"}}
    for person, message in ((None, call), (None, start), ("expired", start), ("expired", call)):
        with client_of(url, person) as client:
            refused = client.post("/mcp", json=body | message, headers=headers)
            assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, place)
            assert client.get("/me").headers["WWW-Authenticate"] == "Bearer"
    with client_of(url, None) as client:
        forwarded = {**headers, "Host": "app.example"}
        refused = client.post("/mcp", json=body | call, headers=forwarded)
        [address] = re.findall('"(.+)"', refused.headers["WWW-Authenticate"])
        assert address == "https://app.example/.well-known/oauth-protected-resource/mcp"
        document = client.get(urlsplit(address).path, headers=forwarded)
        assert document.json()["resource"] == "https://app.example/mcp"
        for host in ("[", 'a"b', "a b", "é", ""):
            for path in ("/mcp", urlsplit(address).path):
                method = "POST" if path == "/mcp" else "GET"
                odd = client.request(method, path, headers=[(b"Host", host.encode())])
                assert odd.status_code in {200, 400, 401}, host
        before = len(received())
        document = client.get(urlsplit(address).path)
    assert document.json() == {
        "resource": f"{url}/mcp",
        "authorization_servers": [
            local_flyte.app_environment()["_U_EP_OVERRIDE"].replace("dns:///", "https://")
        ],
        "scopes_supported": ["all"],
        "bearer_methods_supported": ["header"],
        "resource_name": "FastAPI",
    }
    assert len(received()) == before  # Flyte is asked only once


def test_a_flyte_that_names_no_issuer_is_asked_once_too(
    local_flyte: LocalFlyte, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def ask() -> tuple[Any, Any]:
        asked.append("Flyte")
        return SimpleNamespace(issuer=""), SimpleNamespace(scopes=[])

    monkeypatch.setattr(agents, "sign_in_metadata", ask)
    with serving(app_with_agents()) as url, client_of(url, None) as client:
        for _ in range(2):
            refused = client.get("/.well-known/oauth-protected-resource/mcp")
            assert (refused.status_code, asked) == (404, ["Flyte"])
            assert "OAUTH_ISSUER" in refused.json()["detail"]


class Store:
    """Where the official client keeps its tokens, and how it gets a code."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}
        self.location = ""

    async def get_tokens(self) -> Any:
        return self.kept.get("tokens")

    async def set_tokens(self, tokens: Any) -> None:
        self.kept["tokens"] = tokens

    async def get_client_info(self) -> Any:
        return self.kept.get("client")

    async def set_client_info(self, client_info: Any) -> None:
        self.kept["client"] = client_info

    async def open(self, page: str) -> None:
        async with httpx.AsyncClient(trust_env=False) as browser:
            self.location = (await browser.get(page)).headers["Location"]

    async def code(self) -> AuthorizationCodeResult:
        query = parse_qs(urlsplit(self.location).query)
        return AuthorizationCodeResult(code=query["code"][0], state=query["state"][0])


def identity_provider() -> FastAPI:
    """An identity provider (RFC 6749, 7591, 8414) where alice is signed in."""
    provider = FastAPI()

    @provider.get("/.well-known/oauth-authorization-server")
    async def metadata(request: Request) -> dict[str, Any]:
        own = str(request.base_url).rstrip("/")
        return {
            "issuer": own,
            "authorization_endpoint": f"{own}/authorize",
            "token_endpoint": f"{own}/token",
            "registration_endpoint": f"{own}/register",
            "response_types_supported": ["code"],
            "code_challenge_methods_supported": ["S256"],
        }

    @provider.post("/register", status_code=201)
    async def register(request: Request) -> dict[str, Any]:
        return {**await request.json(), "client_id": "an-agent"}

    @provider.get("/authorize")
    async def authorize(redirect_uri: str, state: str, scope: str) -> RedirectResponse:
        assert scope == "all"
        return RedirectResponse(f"{redirect_uri}?code=for-alice&state={state}", 303)

    @provider.post("/token")
    async def token(code: Annotated[str, Form()]) -> dict[str, Any]:
        assert code == "for-alice"
        return {"access_token": PEOPLE["alice"].token, "token_type": "Bearer", "expires_in": 600}

    return provider


def test_the_official_client_finds_out_where_to_sign_in_and_calls_as_who_did(
    local_flyte: LocalFlyte,
) -> None:
    store = Store()
    with (
        serving(identity_provider()) as issuer,
        serving(app_with_agents(oauth_issuer=issuer)) as url,
    ):
        sign_in = OAuthClientProvider(
            f"{url}/mcp",
            OAuthClientMetadata(redirect_uris=["http://127.0.0.1:1/callback"]),  # type: ignore[list-item]
            store,
            redirect_handler=store.open,
            callback_handler=store.code,
        )
        seen = with_agent(
            url, lambda agent: agent.call_tool("me", {}), authorization="", auth=sign_in
        )
    assert seen.structured_content["subject"] == "alice-subject"
    assert "callback?code=" in store.location
