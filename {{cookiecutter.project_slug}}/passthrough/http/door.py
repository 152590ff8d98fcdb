"""The door: what happens to every request, before anything is known about its caller."""

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any

from opentelemetry import trace
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from ..calls.request_calls import current_calls
from ..limits import current_limits, limits
from ..settings import SETTINGS, Settings
from .callers import IS_PUBLIC, is_public
from .exchange import Exchange, bug_in
from .problems import Problem, problem_for, problem_response, route_of

logger = logging.getLogger("app.access")

REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
CLIENT_HAS_LEFT = 499  # nginx's status for this; it appears only in the log
SENT = ("Authorization", "Last-Event-ID", "MCP-Protocol-Version", "Mcp-Method", "Mcp-Name")
"""Headers that pages of trusted origins may send, besides those with credentials."""


class Door:
    """Gives each request an identifier, refuses it or passes it on, answers its errors, logs it.

    A request keeps its ``X-Request-ID`` if that is well-formed, or gets one, for the response, the
    calls to Flyte and the request's span. Every response has `HEADERS`. An exception of the app
    becomes a problem; if an event stream has begun, the problem is its last event. Any other
    response that has begun is left unfinished: the server cuts it off, so that the client does not
    take it for complete. `Exchange` ends the request when its client leaves or its deadline passes.
    """

    def __init__(self, app: ASGIApp, settings: Settings, public: Collection[str]) -> None:
        """Wrap an application; pages of other sites may request its public paths."""
        self.settings, self.public = settings, public
        self.app = self._with_cors(app)

    def _with_cors(self, app: ASGIApp) -> ASGIApp:
        """Let pages of trusted origins read the answers."""
        if not self.settings.trusted_origins:
            return app
        return CORSMiddleware(
            app,
            allow_origins=self.settings.trusted_origins,
            allow_credentials=True,
            allow_methods=["*"],
            allow_headers=[*SENT, *self.settings.credential_headers],
            expose_headers=[
                "Location",
                "Retry-After",
                "WWW-Authenticate",
                "X-Left-Out",
                "X-Request-ID",
            ],
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        scope[SETTINGS], scope[IS_PUBLIC] = self.settings, is_public(scope, self.public)
        sent = dict(scope["headers"])
        named = sent.get(b"x-request-id", b"")
        request_id = named.decode() if REQUEST_ID.fullmatch(named) else str(uuid.uuid4())
        trace.get_current_span().set_attribute("request_id", request_id)
        current_limits.set(self.settings.limits)
        exchange = Exchange(scope, receive, send, self.settings, request_id)
        token = current_calls.set(exchange.calls)
        try:
            with exchange:
                if refusal := self._refusal(scope, sent):
                    raise refusal
                await self.app(scope, exchange.client.receive, exchange.send)
            await exchange.finish()
        except BaseException as error:  # servers print tracebacks, which may hold a token
            if not _is_the_apps(error):
                raise
            with suppress(ClientDisconnect):
                await self._tell(scope, exchange, error)
        finally:
            current_calls.reset(token)
            if self.settings.access_log:
                self._log(scope, exchange, time.perf_counter() - began)

    def _refusal(self, scope: Scope, sent: Mapping[bytes, bytes]) -> HTTPException | None:
        size = sum(len(name) + len(value) + len(": \r\n") for name, value in scope["headers"])
        size += len(scope["path"]) + len(scope.get("query_string", b""))
        if size > limits().header_bytes:
            return HTTPException(431, "the headers of the request are too large")
        if scope[IS_PUBLIC]:
            return None
        if self._is_cross_origin(sent):
            return HTTPException(403, "Cross-site request refused")
        return None

    def _is_cross_origin(self, sent: Mapping[bytes, bytes]) -> bool:
        """Tell whether a page of another origin sent the request, other than by following a link.

        Even the time that a GET takes can tell another site something about its visitor. The
        middleware's rule is for unsafe methods, but also for browsers without Sec-Fetch-Site.
        """
        if sent.get(b"sec-fetch-site", b"none") in (b"none", b"same-origin"):
            return False
        what = sent.get(b"sec-fetch-mode"), sent.get(b"sec-fetch-dest")
        if what == (b"navigate", b"document"):
            return False
        return sent.get(b"origin", b"").decode("latin-1") not in self.settings.trusted_origins

    async def _tell(self, scope: Scope, exchange: Exchange, error: BaseException) -> None:
        """Tell the client about an error, if the client is still there, and log a bug."""
        error, connection = _first(error), HTTPConnection(scope)
        if exchange.client.has_left:
            exchange.status = exchange.status or CLIENT_HAS_LEFT
            if bug_in(error):
                problem_for(connection, error)  # logs it
            return
        if not exchange.status:
            exchange.withdraw()
            answer = self._with_cors(problem_response(connection, error))
            await answer(scope, exchange.client.receive, exchange.send)
            return
        problem = problem_for(connection, error)
        if exchange.is_event_stream:
            data = bytes(problem.response().body)
            await exchange.end_events(b"event: problem\ndata: %b\n\n" % data)
        elif scope["type"] == "websocket":
            close = WebSocketClose(1011, problem.title)
            await close(scope, exchange.client.receive, exchange.send)

    def _log(self, scope: Scope, exchange: Exchange, seconds: float) -> None:
        calls = exchange.calls
        line: dict[str, Any] = {
            "method": scope.get("method", "WEBSOCKET"),
            "route": route_of(scope),
            "status": exchange.status,
            "ms": round(1000 * seconds, 1),
            "flyte_ms": round(1000 * calls.seconds, 1),
            "request_id": calls.request_id,
            "caller": calls.sender.short_hash or "-",
            "subject": calls.sender.subject or "-",
        }
        logger.info("%s", " ".join(map(str, line.values())), extra={"fields": line})


def _is_the_apps(error: BaseException) -> bool:
    """Tell whether an exception is to be answered: not if the server cancels or stops."""
    task = asyncio.current_task()
    is_cancelled = isinstance(error, asyncio.CancelledError) and not (task and task.cancelling())
    return is_cancelled or isinstance(error, Exception)


def _first(error: BaseException) -> BaseException:
    """Return what to answer: of a group of errors, such as a stream's, a bug if there is one."""
    while isinstance(error, BaseExceptionGroup):
        rest = bug_in(error)
        told = rest.exceptions if isinstance(rest, BaseExceptionGroup) else [ClientDisconnect()]
        error = max(told, key=lambda one: Problem.of_exception(one).status == 500)
    return error
