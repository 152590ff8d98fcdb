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
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.types import Message, Receive, Scope, Send

from ..application import App
from ..calls.own_identity import sign_in_metadata
from ..calls.request_calls import request_calls
from ..dependencies import find_caller
from .tools import LARGEST, Answer, Tool, WrongArgumentsError, tools_of

PATH = "/mcp"
METADATA = f"/.well-known/oauth-protected-resource{PATH}"  # RFC 9728 3.1
PATIENCE = 5.0  # seconds to read what an endpoint streams
INVALID_PARAMS = -32602  # JSON-RPC 2.0, 5.1
# Headers that describe the agent's request. All others go along: they say who sent it.
DESCRIBING = re.compile(
    rb"(accept|content|if|mcp)(-.*)?|baggage|expect|last-event-id|range|te|trace(parent|state)"
    rb"|transfer-encoding|x-request-id"
)


def serve_agents(app: App, only: Collection[str] | None = None) -> None:
    """Offer the app's operations as tools, except for those that need no credentials.

    Args:
        app: The app. Its routers may also be added later.
        only: Operation ids or tags of the operations to offer; default: all.
    """
    agents = Agents(app, only)
    # First, so that no catch-all route of the owner gets there before.
    app.router.routes[:0] = [
        Route(PATH, agents, methods=["POST"]),
        Route(METADATA, agents.metadata),
    ]
    app.public.add(METADATA)
    app.challenges[PATH] = _challenge


def _challenge(connection: HTTPConnection) -> str:
    """Say where to learn how to sign in (RFC 9728 5.1)."""
    return f'Bearer resource_metadata="{_address(connection, METADATA)}"'


def _address(connection: HTTPConnection, path: str) -> str:
    """Return an address as the client knows it. OAuth needs https, except on this machine."""
    url = connection.base_url
    is_here = url.hostname in {"localhost", "127.0.0.1", "::1"}
    return str(url.replace(scheme=url.scheme if is_here else "https")).rstrip("/") + path


class Agents:
    """An ASGI application that answers one message of an agent, without sessions."""

    def __init__(self, app: App, only: Collection[str] | None) -> None:
        self._app, self._only = app, only
        self._server: Any = None
        self._tools: dict[str, Tool] = {}
        self._routes: list[Any] = []
        self._metadata: dict[str, Any] | None = None
        self._asking = asyncio.Lock()

    async def metadata(self, request: Request) -> JSONResponse:
        """Tell where to sign in (RFC 9728 2)."""
        async with self._asking:  # Flyte is asked once, and what it answers is nobody's
            if self._metadata is None:
                self._metadata = await self._where_to_sign_in()
        if not any(self._metadata["authorization_servers"]):
            raise HTTPException(404, "Flyte does not say where to sign in: see OAUTH_ISSUER")
        return JSONResponse({"resource": _address(request, PATH), **self._metadata})

    async def _where_to_sign_in(self) -> dict[str, Any]:
        settings = self._app.settings
        if settings.flyte_plaintext:
            raise HTTPException(404, "nobody signs in: Flyte is called in plaintext")
        metadata, config = await sign_in_metadata()
        return {
            "authorization_servers": [settings.oauth_issuer or metadata.issuer],
            "scopes_supported": [*config.scopes],
            "bearer_methods_supported": ["header"],
            "resource_name": self._app.title,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        body = await Request(scope, receive).body()
        try:
            message = from_json(body, allow_inf_nan=False)
        except ValueError:
            raise HTTPException(400, "the body is not JSON") from None
        if not isinstance(message, dict):  # the package would validate each item
            raise HTTPException(400, "the body is not one message")
        caller = HTTPConnection(scope)
        if message.get("method") in ("initialize", "server/discover"):
            await find_caller(caller)  # expired credentials are noticed here
        if self._server is None:
            await self._load()
        manager = self._manager(self._server, json_response=True, stateless=True)
        call = scope["passthrough.call"] = Call(self._app, scope)
        answer: list[Message] = []

        unread = [body]

        async def replay() -> Message:
            # Afterwards it waits for the agent to leave, as the package does.
            return {"type": "http.request", "body": unread.pop()} if unread else await receive()

        async def keep(message: Message) -> None:
            answer.append(message)

        try:
            async with manager.run():
                await manager.handle_request(scope, replay, keep)
            if call.answer.status == 401:  # if Flyte refuses the credentials, it does so again
                await find_caller(caller)  # ... and the agent signs in; else it gets the result
            for each in answer:
                await send(each)
        finally:
            await call.end()

    async def _load(self) -> None:
        """Import the package, in a thread because that takes a third of a second."""
        server = await asyncio.to_thread(resolve_name, "mcp.server.lowlevel:Server")
        package = "mcp.server.streamable_http_manager"
        self._manager = resolve_name(f"{package}:StreamableHTTPSessionManager")
        logging.getLogger("mcp.server").setLevel(logging.WARNING)  # not three lines a request
        self._tools = tools_of(self._app.openapi(), self._only)
        self._routes = [
            (each.path_regex, each.methods, each.path_format)
            for each in iter_route_contexts(self._app.routes)
            if hasattr(each, "path_regex") and not isinstance(each.original_route, WebSocketRoute)
        ]
        self._server = server(
            self._app.title,
            version=self._app.version,
            instructions=self._app.description,
            on_list_tools=self._list,
            on_call_tool=self._call,
            get_tool_input_schema=lambda _: None,
        )
        self._server.middleware.clear()  # its spans would hold what the client wrote

    async def _list(self, *_: Any) -> dict[str, Any]:
        return {
            "tools": [tool.definition for tool in self._tools.values()],
            "resultType": "complete",
            "ttlMs": 0,
            "cacheScope": "public",
        }

    async def _call(self, context: Any, params: Any) -> Any:
        tool = self._tools.get(params.name)
        if tool is None:
            return resolve_name("mcp_types:ErrorData")(code=INVALID_PARAMS, message="Unknown tool")
        scope = context.request.scope
        scope["route"] = SimpleNamespace(path=f"{PATH}#{params.name}")  # for the access log
        try:
            request, body = tool.request(params.arguments or {})
            self._check_path(tool, request["path"])
        except WrongArgumentsError as error:
            return error.result
        request_calls().leave_deadline()  # the request of the call has its own
        return tool.result(request, await scope["passthrough.call"].make(request, body))

    def _check_path(self, tool: Tool, path: str) -> None:
        """Refuse arguments that make the path of another operation."""
        for regex, methods, path_format in self._routes:
            if regex.match(path) and (methods is None or tool.method in methods):
                if path_format == tool.path:
                    return
                break
        in_path = [each for each, (place, _) in tool.places.items() if place == "path"]
        raise WrongArgumentsError(dict.fromkeys(in_path, "not possible in the path"))


class Call:
    """The request that a tool call makes."""

    def __init__(self, app: App, outer: Scope) -> None:
        self._app, self._outer = app, outer
        self.answer = Answer()
        self._body: bytes | None = None
        self._answered, self._left = asyncio.Event(), asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def make(self, request: dict[str, Any], body: bytes) -> Answer:
        """Make the request, and return what has come of its response in time."""
        trace: dict[str, str] = {"x-request-id": request_calls().request_id or ""}
        TraceContextTextMapPropagator().inject(trace)
        headers = [each for each in self._outer["headers"] if not DESCRIBING.fullmatch(each[0])]
        headers += [(name.encode(), value.encode()) for name, value in trace.items()]
        kept = ("type", "asgi", "http_version", "scheme", "server", "client", "root_path")
        scope = {name: self._outer[name] for name in kept if name in self._outer} | request
        scope["path"] = self._outer.get("root_path", "") + scope["path"]
        scope["state"] = {**self._outer.get("state", {})}  # from the app's lifespan
        self._body = body
        scope["headers"] = headers + scope["headers"]
        # In a context of its own: it finds nothing of the request around it.
        task = self._app(scope, self._receive, self._send)
        self._task = asyncio.create_task(task, context=Context())
        self._task.add_done_callback(self._done)
        await self._answered.wait()
        if not self._left.is_set():  # it broke off
            self.answer.status = 500
        return self.answer

    async def end(self) -> None:
        """Leave, as a client does that has gone, and wait until nothing is left of the request."""
        self._left.set()
        self.answer = Answer()  # else it stays until the garbage collector finds the task's cycle
        if self._timer:
            self._timer.cancel()
        if self._task:
            await asyncio.wait({self._task})

    def _done(self, task: asyncio.Task[None]) -> None:
        task.cancelled() or task.exception()  # if the agent has left, nobody else takes it
        self._answered.set()

    async def _receive(self) -> Message:
        if self._body is None:
            await self._left.wait()
            return {"type": "http.disconnect"}
        body, self._body = self._body, None
        return {"type": "http.request", "body": body}

    async def _send(self, message: Message) -> None:
        if self._left.is_set():
            raise OSError("the agent reads no more of this")
        if message["type"] == "http.response.start":
            self.answer.status = message["status"]
            self.answer.headers = Headers(raw=message.get("headers", []))
            self._timer = asyncio.get_running_loop().call_later(PATIENCE, self._enough)
        else:
            self.answer.body += message.get("body", b"")
            self.answer.is_whole = not message.get("more_body")
            if self.answer.is_whole or len(self.answer.body) > LARGEST:
                self._enough()

    def _enough(self) -> None:
        self._left.set()
        self._answered.set()
