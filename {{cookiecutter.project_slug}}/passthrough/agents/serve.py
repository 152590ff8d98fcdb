"""Every endpoint is a tool for AI agents: the Model Context Protocol (MCP) at ``/mcp``.

A tool call is a request to the endpoint, made inside the app with the headers of the agent's own
request. It passes the same middleware, so it acts as the same caller, has the same deadline, is
refused in the same words, and ends when the agent leaves.
"""

import asyncio
import logging
import re
from collections.abc import Collection
from contextvars import Context
from pkgutil import resolve_name
from types import SimpleNamespace
from typing import Any

from fastapi.routing import iter_route_contexts
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from pydantic_core import from_json
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Match, Route
from starlette.types import Message, Receive, Scope, Send

from ..application import App, operation_id, operations_by_id
from ..calls.errors import StartError
from ..calls.request_calls import request_calls
from ..dependencies import find_caller
from ..http.callers import IS_PART
from ..http.problems import Problem
from ..limits import limits
from ..values.budget import check_json
from .sign_in import METADATA, PATH, SignIn
from .tools import Tool, result_of, tools_of

INNER = "passthrough.inner"
"""The key of ASGI's scope for the request that an agent's message makes."""
INVALID_PARAMS = -32602  # JSON-RPC 2.0, 5.1
# Headers that describe the agent's request. All others go along: they say who sent it.
DESCRIBING = re.compile(
    rb"(accept|content|if|mcp)(-.*)?|baggage|expect|last-event-id|range|te|trace(parent|state)"
    rb"|transfer-encoding|x-request-id"
)


def serve_agents(app: App, only: Collection[str] | None = None) -> None:
    """Offer the app's operations as tools, except for those that need no credentials.

    Args:
        app: The app, with all its routers.
        only: Operation ids or tags of the operations to offer; default: all.

    Raises:
        StartError: One of ``only`` is neither, or two operations have one id.
    """
    found = operations_by_id(app.routes)
    known = {*found, *(str(tag) for route in found.values() for tag in route.tags)}
    if missing := {*(only or ())} - known:
        raise StartError(
            f"cannot start: there is no {', '.join(sorted(missing))} to offer to agents;"
            f" there are {', '.join(sorted(known))}"
        )
    sign_in = SignIn(app.settings, app.title)
    most = app.settings.limits.agent_message_bytes
    agents = Route(PATH, Agents(app, only), methods=["POST"], max_body_size=most)
    # First, so that no catch-all route of the owner gets there before.
    app.router.routes[:0] = [agents, Route(METADATA, sign_in.metadata)]
    app.challenges[PATH] = sign_in.challenge
    app.public.add(METADATA)


class Agents:
    """An ASGI application that answers one message of an agent, without sessions."""

    def __init__(self, app: App, only: Collection[str] | None) -> None:
        self._app, self._only = app, only
        self._credentials = {name.encode() for name in app.settings.secret_headers}
        self._server: Any = None
        self._tools: dict[str, Tool] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        request = Request(scope, receive)
        body = await request.body()
        if _method(body) in ("initialize", "server/discover"):
            await find_caller(request)  # expired credentials are noticed here
        if self._server is None:
            await self._load()
        manager = self._manager(self._server, json_response=True, stateless=True)
        unread, answer = [body], list[Message]()

        async def replay() -> Message:
            # Afterwards it waits for the agent to leave, as the package does.
            return {"type": "http.request", "body": unread.pop()} if unread else await receive()

        async def keep(message: Message) -> None:
            answer.append(message)

        try:
            async with manager.run():
                await manager.handle_request(scope, replay, keep)
            if INNER in scope and scope[INNER].status == 401:
                # If it is Flyte that refuses, the agent signs in; else it gets the endpoint's 401.
                await find_caller(request)
            for part in answer:
                await send(part)
        finally:
            if INNER in scope:
                await scope[INNER].end()

    async def _load(self) -> None:
        """Import the package, in a thread because that takes a third of a second."""
        server = await asyncio.to_thread(resolve_name, "mcp.server.lowlevel:Server")
        package = "mcp.server.streamable_http_manager"
        self._manager = resolve_name(f"{package}:StreamableHTTPSessionManager")
        logging.getLogger("mcp.server").setLevel(logging.WARNING)  # not three lines a request
        self._tools = tools_of(self._app.openapi(), self._only)
        self._server = server(
            self._app.title,
            version=self._app.version,
            instructions=self._app.description,
            on_list_tools=self._list_tools,
            on_call_tool=self._call_tool,
            get_tool_input_schema=lambda _: None,
        )
        self._server.middleware.clear()  # its spans would hold what the client wrote

    async def _list_tools(self, *_: Any) -> dict[str, Any]:
        tools = [tool.definition for tool in self._tools.values()]
        return {"tools": tools, "resultType": "complete", "ttlMs": 0, "cacheScope": "public"}

    async def _call_tool(self, context: Any, params: Any) -> Any:
        tool = self._tools.get(params.name)
        if tool is None:
            return resolve_name("mcp_types:ErrorData")(code=INVALID_PARAMS, message="Unknown tool")
        outer = context.request.scope
        outer["route"] = SimpleNamespace(path=f"{PATH}#{params.name}")  # for the access log
        try:
            request, body = tool.request(params.arguments or {})
            scope = self._scope(tool, outer, request)
        except HTTPException as error:
            refusal = Problem.of_exception(error).response()
            return result_of(422, refusal.headers, bytes(refusal.body), is_whole=True)
        request_calls().deadline.remove()  # the inner request has its own
        outer[INNER] = inner = InnerRequest(self._app, scope, body)
        return await inner.result()

    def _scope(self, tool: Tool, outer: Scope, request: dict[str, Any]) -> Scope:
        """Return the scope of a tool's request, as the agent's own client would send it.

        Raises:
            HTTPException: The path is another operation's, too, which would answer.
        """
        trace = {"x-request-id": request_calls().request_id or ""}
        TraceContextTextMapPropagator().inject(trace)
        headers = [
            (name, value)
            for name, value in outer["headers"]
            if name in self._credentials or not DESCRIBING.fullmatch(name)
        ]
        headers += [(name.encode(), value.encode()) for name, value in trace.items()]
        kept = ("type", "asgi", "http_version", "scheme", "server", "client", "root_path")
        scope = {name: outer[name] for name in kept if name in outer} | request
        scope["path"] = outer.get("root_path", "") + scope["path"]
        scope["headers"] = headers + scope["headers"]
        scope[IS_PART] = True
        scope["state"] = {**outer.get("state", {})}  # from the app's lifespan
        for route in iter_route_contexts(self._app.routes):
            if route.matches(scope)[0] is Match.FULL:
                if operation_id(route) == tool.definition["name"]:
                    return scope
                break
        raise tool.refusal()


def _method(body: bytes) -> object:
    """Return the method that a message names.

    Raises:
        HTTPException: It is not one message, or is nested too deeply.
    """
    try:
        message = from_json(body, allow_inf_nan=False)
    except ValueError:
        raise HTTPException(400, "the body is not JSON") from None
    if not isinstance(message, dict):  # the package would validate each item
        raise HTTPException(400, "the body is not one message")
    try:
        check_json(message)
    except ValueError as error:
        raise HTTPException(413, str(error)) from None
    return message.get("method")


class InnerRequest:
    """A request to the app, and its client, who leaves with what has come in time."""

    def __init__(self, app: App, scope: Scope, body: bytes) -> None:
        self.status, self._headers, self._body, self._is_whole = 0, Headers(), b"", False
        self._unread = [body]
        self._left = asyncio.Event()
        # In a context of its own: it finds nothing of the request around it.
        self._task = asyncio.create_task(app(scope, self._receive, self._send), context=Context())
        self._task.add_done_callback(self._done)

    async def result(self) -> dict[str, Any]:
        """Wait for the response, or as much of it as comes in time, and return it as a result."""
        await self._left.wait()
        return result_of(self.status, self._headers, self._body, is_whole=self._is_whole)

    async def end(self) -> None:
        """Leave, and wait until nothing is left of the request."""
        self._left.set()
        await asyncio.wait({self._task})

    def _done(self, _: asyncio.Task[None]) -> None:
        if not self._left.is_set():
            self.status = 500  # it broke off
            self._left.set()

    async def _receive(self) -> Message:
        if self._unread:
            return {"type": "http.request", "body": self._unread.pop()}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if self._left.is_set():
            raise OSError("the agent reads no more of this")
        if message["type"] == "http.response.start":
            self.status, self._headers = message["status"], Headers(raw=message.get("headers", []))
            seconds = limits().agent_result_seconds
            asyncio.get_running_loop().call_later(seconds, self._left.set)
            return
        read, most = self._body + message.get("body", b""), limits().agent_result_bytes
        self._body = read[:most]
        self._is_whole = read == self._body and not message.get("more_body")
        if self._is_whole or len(read) > most:
            self._left.set()
