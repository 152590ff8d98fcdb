"""The door: what happens to every request, before anything is known about its caller."""

import asyncio
import json
import logging
import re
import time
import uuid
from collections.abc import Collection, Mapping
from concurrent import futures
from contextlib import suppress
from datetime import UTC, datetime
from ipaddress import ip_address
from traceback import walk_tb
from typing import Any
from urllib.parse import quote, urlsplit

import flyte.errors
from anyio import BrokenResourceError
from opentelemetry import trace
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose, WebSocketDisconnect

from ..calls.caller import act_in, initialised
from ..calls.errors import MIN_SECRET_CHARS, QUOTE_CHARS
from ..calls.make_safe import make_safe
from ..calls.request_calls import current_calls
from ..limits import MAX_HEADER_BYTES, MAX_SUBJECT_CHARS, current_limits
from ..settings import SETTINGS, Settings
from .exchange import Exchange
from .problems import Problem, problem_for, problem_response, route_of
from .public import IS_PUBLIC, is_public
from .stopping import COME_BACK, stopping

logger = logging.getLogger("app.access")

REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
AROUND_HEADER = len(": \r\n")
CLIENT_HAS_LEFT = 499  # nginx's status for this; it appears only in the log
DISCONNECTS = (ClientDisconnect, WebSocketDisconnect)
CANCELLED = (asyncio.CancelledError, futures.CancelledError)
ENDED = (*DISCONNECTS, *CANCELLED, TimeoutError, BrokenResourceError)
"""What an app may raise if it is cancelled, or its calls to Flyte in other threads are."""
SENT = ("Authorization", "Last-Event-ID", "MCP-Protocol-Version", "Mcp-Method", "Mcp-Name")
"""Headers that pages of trusted origins may send, besides those with credentials."""
UNREAD = "too many messages that nobody reads"
COVERED = "passthrough.covered"
"""The key for what FastAPI's telemetry must not see."""
CONFIG = "passthrough.flyte"
"""The key of the lifespan's state for Flyte's configuration."""


class Door:
    """Gives each request an identifier, refuses it or passes it on, answers it in time, logs it.

    - A request keeps its ``X-Request-ID``, or gets one. It is added to the response, to each call
      to Flyte, and to the request's span if requests are traced.
    - Requests that are too large, come from another site's page, or use a foreign host name are
      refused. Pages of trusted origins may call the app and read its answers.
    - Every response has `HEADERS`.
    - If the application raises, or does not answer in time, the answer is a problem. No exception
      gets past: servers print tracebacks, and Flyte's messages in them may hold a token. The
      deadline is for the start of the response, or the acceptance of a WebSocket.
    - If an event stream fails before its first event, so does the request; later, its last event
      is named ``problem``. Any other response that has started is left unfinished: the server cuts
      it off, so that the client does not take it for complete.
    - Calls to Flyte end with their request, and both end when the client leaves. Event streams end
      when the server is asked to stop.
    - The log has a line for each request, without its query, headers or credentials.
    """

    def __init__(self, app: ASGIApp, settings: Settings, public: Collection[str]) -> None:
        """Wrap an application.

        Args:
            app: The ASGI application.
            settings: The app's settings.
            public: Paths that need no credentials; pages of other sites may request them, under
                any host name.
        """
        self.settings, self.public = settings, public
        self.app = self._with_cors(app)
        self._secret_headers = {b"cookie", *(name.encode() for name in settings.secret_headers)}

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
            expose_headers=["Location", "WWW-Authenticate", "X-Request-ID"],
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        began, task = time.perf_counter(), asyncio.current_task()
        scope.update(scope.pop(COVERED, {}))  # undo application._covered
        scope[SETTINGS], scope[IS_PUBLIC] = self.settings, is_public(scope, self.public)
        sent = dict(scope["headers"])
        request_id = self._request_id(scope, sent)
        trace.get_current_span().set_attribute("request_id", request_id)
        current_limits.set(self.settings.limits)
        exchange = Exchange(scope, receive, send, self.settings, request_id)
        token = current_calls.set(exchange.calls)
        try:
            async with exchange.client.cancel_scope, exchange.deadline.timeout:
                try:
                    await self._serve(scope, sent, exchange)
                finally:
                    exchange.stop()
        except BaseException as error:
            if _is_the_servers(error, exchange, task):
                raise
            try:
                await self._answer(scope, exchange, error)
            except Exception as second:  # noqa: BLE001 - such as a header that cannot be sent
                with suppress(Exception):
                    await self._answer(scope, exchange, second)
        finally:
            exchange.calls.end()
            current_calls.reset(token)
            if self.settings.access_log != "off":
                self._log(scope, exchange, time.perf_counter() - began)

    async def _serve(self, scope: Scope, sent: Mapping[bytes, bytes], exchange: Exchange) -> None:
        if refusal := self._refusal(scope, sent):
            raise refusal
        # Check Content-Length now: uvicorn sends `100 Continue` at the first receive(), and an
        # endpoint may never read its body.
        if (length := sent.get(b"content-length", b"").lstrip(b"0")).isdigit():
            exchange.client.check_size(int(length))
        make_safe()  # if the app's lifespan has not been run
        # That of the start, whatever other apps in the process do later.
        if config := scope.get("state", {}).get(CONFIG) or configuration():
            act_in(config)
        await self.app(scope, exchange.client.receive, exchange.send)
        await exchange.response.release()
        if exchange.is_http and not exchange.response.has_started:
            # It is not the app's fault if the client has left; else this is answered with 500.
            raise ClientDisconnect("the app has not answered")

    def _request_id(self, scope: Scope, sent: Mapping[bytes, bytes]) -> str:
        """Return the client's identifier of the request, or a new one; it is logged and sent on.

        It is a new one if the client's quotes its credentials. Its pieces are looked for in them,
        not theirs in it as `Secrets` does: all of its 8 to 11 characters may be a quote.
        """
        named = sent.get(b"x-request-id", b"")
        if not REQUEST_ID.fullmatch(named):
            return str(uuid.uuid4())
        headers = scope["headers"]
        secret = b" ".join(value for name, value in headers if name in self._secret_headers)
        size = min(len(named), QUOTE_CHARS)
        pieces = (named[i : i + size] for i in range(len(named) - size + 1))
        is_quote = size >= MIN_SECRET_CHARS and any(piece in secret for piece in pieces)
        return str(uuid.uuid4()) if is_quote else named.decode()

    def _refusal(self, scope: Scope, sent: Mapping[bytes, bytes]) -> HTTPException | None:
        size = sum(len(name) + len(value) + AROUND_HEADER for name, value in scope["headers"])
        if size + len(scope["path"]) + len(scope.get("query_string", b"")) > MAX_HEADER_BYTES:
            return HTTPException(431, "the headers of the request are too large")
        if scope[IS_PUBLIC]:
            return None
        if self.settings.flyte_plaintext and not self._is_ours(sent.get(b"host", b"")):
            return HTTPException(
                421, "the app is not served under this host name: see ALLOWED_HOSTS in its settings"
            )
        if self._is_cross_origin(sent):
            return HTTPException(403, "Cross-site request refused")
        return None

    def _is_ours(self, host: bytes) -> bool:
        """Tell whether a Host header is safe from DNS rebinding."""
        with suppress(ValueError):
            name = urlsplit(f"//{host.decode('latin-1')}").hostname or ""
            ours = ("localhost", *self.settings.allowed_hosts)
            return name in ours or name.endswith(".localhost") or bool(ip_address(name))
        return False

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

    async def _answer(self, scope: Scope, exchange: Exchange, error: BaseException) -> None:
        """Answer a request that has failed, if it can still be answered."""
        response, ended_by = exchange.response, exchange.ended_by
        expected: tuple[type[BaseException], ...] = ()
        if ended_by:
            expected = ENDED
        elif response.has_started or not exchange.is_http:
            expected = DISCONNECTS  # of a client who has left unnoticed; else the app has a bug
        error = _first(error, expected)
        if not isinstance(error, expected):
            await self._tell(scope, exchange, error)
        elif ended_by == "unread":
            await exchange.send({"type": "websocket.close", "code": 1008, "reason": UNREAD})
        elif ended_by == "stopping" and response.is_event_stream:
            await response.end_events(COME_BACK)
        elif not response.has_started:  # the client has left: this is only for the log
            response.withdraw()
            response.status = CLIENT_HAS_LEFT

    async def _tell(self, scope: Scope, exchange: Exchange, error: BaseException) -> None:
        """Tell the client, who may be connected, about an error, and log it if it is a bug."""
        response, connection = exchange.response, HTTPConnection(scope)
        if response.events_ended and _is_from_background(error):
            problem_for(connection, error)  # logs it
            await response.release()
        elif not response.has_started:
            response.withdraw()
            answer = self._with_cors(problem_response(connection, error))
            await answer(scope, exchange.client.receive, exchange.send)
        else:
            problem = problem_for(connection, error)
            if not exchange.is_http:
                close = WebSocketClose(1011, problem.title)
                await close(scope, exchange.client.receive, exchange.send)
            elif response.is_event_stream:
                data = bytes(problem.response().body)
                await response.end_events(b"event: problem\ndata: %b\n\n" % data)
            # Any other response stays unfinished: the server cuts it off.

    def _log(self, scope: Scope, exchange: Exchange, seconds: float) -> None:
        calls = exchange.calls
        line: dict[str, Any] = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "method": scope.get("method", "WEBSOCKET"),
            "route": route_of(scope),
            "status": exchange.response.status,
            "ms": round(1000 * seconds, 1),
            "flyte_ms": round(1000 * calls.seconds, 1),
            "request_id": calls.request_id,
            "subject": quote((calls.subject or "-")[:MAX_SUBJECT_CHARS], safe="@:|"),
        }
        is_json = self.settings.access_log == "json"
        logger.info(json.dumps(line) if is_json else " ".join(map(str, line.values())))


def configuration() -> Any:
    """Return Flyte's configuration; None if Flyte has not been initialised."""
    with suppress(flyte.errors.InitializationError):
        return initialised()
    return None


def _is_the_servers(
    error: BaseException, exchange: Exchange, task: asyncio.Task[Any] | None
) -> bool:
    """Tell whether the server cancels or closes the request, which no endpoint's error does."""
    if isinstance(error, asyncio.CancelledError):
        # The end of its calls cancels a request, too.
        return bool(task and task.cancelling()) and not exchange.calls.has_ended
    if isinstance(error, GeneratorExit):
        with suppress(RuntimeError):  # no event loop is running
            return asyncio.current_task() is not task
        return True
    return stopping.is_interrupt(error)


def _first(error: BaseException, expected: tuple[type[BaseException], ...]) -> BaseException:
    """Return what to answer: of a group of errors a bug, or else one that is not expected."""
    while isinstance(error, BaseExceptionGroup):  # from FastAPI's queue of events, for instance
        rest = error.split(expected)[1]
        told = rest.exceptions if rest else [ClientDisconnect()]
        error = max(told, key=lambda each: Problem.of_exception(each).status == 500)
    cause = error.__cause__
    # Starlette wraps it if the response has started, as it has for Starlette when it is held back.
    is_wrapped = isinstance(error, RuntimeError) and "response already started" in str(error)
    return cause if is_wrapped and cause else error


def _is_from_background(error: BaseException) -> bool:
    """Tell whether a background task has raised it, after a response that was complete."""
    frames = (frame for frame, _ in walk_tb(error.__traceback__))
    return any(frame.f_globals.get("__name__") == "starlette.background" for frame in frames)
