"""The door: what happens to every request, before anything is known about its caller."""

import asyncio
import gc
import json
import logging
import re
import sys
import time
import uuid
from collections.abc import Collection, Mapping
from concurrent import futures
from contextlib import closing, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any
from urllib.parse import quote, urlsplit

import flyte.errors
from anyio import BrokenResourceError
from opentelemetry import trace
from starlette._utils import get_route_path  # Starlette's own routing uses it
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose, WebSocketDisconnect

from ..calls.caller import act_in, initialised
from ..calls.errors import StartError
from ..calls.make_safe import make_safe
from ..calls.request_calls import current_calls
from ..limits import MAX_HEADER_BYTES
from ..settings import Settings
from .exchange import Exchange
from .problems import SETTINGS, Problem, problem_for, problem_response, route_of
from .stopping import COME_BACK, stopping

logger = logging.getLogger("app.access")

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
AROUND_HEADER = len(": \r\n")
CLIENT_HAS_LEFT = 499  # nginx's status for this; it appears only in the log
GONE = (ClientDisconnect, WebSocketDisconnect)
ENDED = (*GONE, TimeoutError, asyncio.CancelledError, futures.CancelledError, BrokenResourceError)
"""What an app may raise if it is cancelled, or its calls to Flyte in other threads are."""
COVERED = "passthrough.covered"
"""The key for what FastAPI's telemetry must not see."""


prefix: ContextVar[str] = ContextVar("prefix", default="")
"""What the server puts before the path of the current request (``uvicorn --root-path /pre``)."""


class PublicPaths(set[str]):
    """Paths that need no credentials, compared as they are routed: without the server's prefix.

    ``/page/*`` stands for each path directly below ``/page/``.
    """

    def __contains__(self, path: object) -> bool:
        """Tell whether the path in the current request's scope is one of them."""
        routed = get_route_path({"path": path, "root_path": prefix.get()})
        folder = routed.rpartition("/")[0]
        return super().__contains__(routed) or super().__contains__(f"{folder}/*")


class Door:
    """Gives each request an identifier, refuses it or passes it on, answers it in time, logs it.

    At start-up it makes the SDK safe (`make_safe`). For requests:

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
            public: Paths that pages of other sites may request, under any host name.
        """
        self.settings, self.public = settings, public
        self._flyte: Any = None
        self.app = self._with_cors(app)
        if settings.access_log != "off" and not logger.hasHandlers():  # keep the owner's handlers
            logger.addHandler(logging.StreamHandler(sys.stdout))
            logger.setLevel(logging.INFO)
            logger.propagate = False

    def _with_cors(self, app: ASGIApp) -> ASGIApp:
        """Let pages of trusted origins read the answers."""
        if not self.settings.trusted_origins:
            return app
        return CORSMiddleware(
            app,
            allow_origins=self.settings.trusted_origins,
            allow_credentials=True,
            allow_methods=["*"],
            allow_headers=["Authorization", "Last-Event-ID", *self.settings.credential_headers],
            expose_headers=["Location", "X-Request-ID"],
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] == "lifespan":
            try:
                make_safe()  # before the app's own lifespan initialises Flyte
                await self.app(scope, receive, self._noting_the_start(send))
            except StartError as error:  # a message without a traceback
                await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        began = time.perf_counter()
        scope.update(scope.pop(COVERED, {}))
        scope[SETTINGS] = self.settings
        prefix.set(scope.get("root_path", ""))
        sent = dict(scope["headers"])
        request_id = sent.get(b"x-request-id", b"").decode("latin-1")
        if not REQUEST_ID.fullmatch(request_id):
            request_id = str(uuid.uuid4())
        trace.get_current_span().set_attribute("request_id", request_id)
        exchange = Exchange(scope, receive, send, self.settings, request_id)
        token = current_calls.set(exchange.calls)
        try:
            with closing(exchange):
                async with exchange.present, exchange.deadline:
                    if refusal := self._refusal(scope, sent):
                        raise refusal
                    # Before a client is told to continue, and whether or not the app reads it.
                    if (length := sent.get(b"content-length", b"")).isdigit():
                        exchange.check_size(int(length))
                    if config := self._flyte or self._initialised():
                        act_in(config)
                    await self.app(scope, exchange.receive, exchange.send)
                    await exchange.complete()
        except (Exception, asyncio.CancelledError, BaseExceptionGroup) as error:
            task = asyncio.current_task()
            by_server = isinstance(error, asyncio.CancelledError) and task and task.cancelling()
            if by_server and not exchange.has_left:
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

    def _noting_the_start(self, send: Send) -> Send:
        async def noting_send(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                self._initialised()
                stopping.listen()
                # Fewer collections, without what exists from the start: they cost several percent.
                gc.freeze()
                gc.set_threshold(10_000)
            if not isinstance(sys.exception(), StartError):
                await send(message)

        return noting_send

    def _initialised(self) -> Any:
        """Return Flyte's configuration, whatever other apps in the process do later; or None."""
        make_safe()  # if the app's lifespan has not been run
        with suppress(flyte.errors.InitializationError):
            self._flyte = initialised()
        return self._flyte

    def _refusal(self, scope: Scope, sent: Mapping[bytes, bytes]) -> HTTPException | None:
        size = sum(len(name) + len(value) + AROUND_HEADER for name, value in scope["headers"])
        if size + len(scope["path"]) + len(scope.get("query_string", b"")) > MAX_HEADER_BYTES:
            return HTTPException(431, "the headers of the request are too large")
        if scope["path"] in self.public:
            return None
        if self.settings.flyte_plaintext and not self._is_ours(sent.get(b"host", b"")):
            return HTTPException(
                421, "the app is not served under this host name: see ALLOWED_HOSTS in its settings"
            )
        return HTTPException(403, "Cross-site request refused") if self._is_foreign(sent) else None

    def _is_ours(self, host: bytes) -> bool:
        """Tell whether a Host header is safe from DNS rebinding."""
        with suppress(ValueError):
            name = urlsplit(f"//{host.decode('latin-1')}").hostname or ""
            ours = ("localhost", *self.settings.allowed_hosts)
            return name in ours or name.endswith(".localhost") or bool(ip_address(name))
        return False

    def _is_foreign(self, sent: Mapping[bytes, bytes]) -> bool:
        """Tell whether a page of another origin sent the request, other than by following a link.

        The middleware refuses only unsafe methods. But even the time that a GET takes can tell
        another site something about its visitor.
        """
        if sent.get(b"sec-fetch-site", b"none") in (b"none", b"same-origin"):
            return False
        if (
            sent.get(b"sec-fetch-mode") == b"navigate"
            and sent.get(b"sec-fetch-dest") == b"document"
        ):
            return False
        return sent.get(b"origin", b"").decode("latin-1") not in self.settings.trusted_origins

    async def _answer(self, scope: Scope, exchange: Exchange, error: BaseException) -> None:
        """Answer a request that has failed, if it can still be answered."""
        is_over = exchange.has_left or exchange.present.expired()
        expected = ENDED if is_over else GONE
        while isinstance(error, BaseExceptionGroup):  # from FastAPI's queue of events, for instance
            rest = error.split(expected)[1]
            told = rest.exceptions if rest else [ClientDisconnect()]
            error = max(told, key=lambda each: Problem.of_exception(each).status == 500)  # a bug
        # Of a client who is still there, and gets nothing, the app may say the same: a bug.
        may_have_left = is_over or exchange.has_started or not exchange.is_http
        is_expected = may_have_left and isinstance(error, expected)
        if is_expected and is_over and not exchange.has_left:
            await exchange.complete(COME_BACK)
            return
        await exchange.withdraw()
        answer: ASGIApp | None = None
        if is_expected:
            if not exchange.has_started:
                exchange.status = CLIENT_HAS_LEFT
        elif not exchange.has_started:
            answer = self._with_cors(problem_response(HTTPConnection(scope), error))
        else:
            problem = problem_for(HTTPConnection(scope), error)
            if not exchange.is_http:
                answer = WebSocketClose(1011, problem.title)
            elif exchange.is_event_stream:
                data = bytes(problem.response().body)
                await exchange.complete(b"event: problem\ndata: %b\n\n" % data)
        if answer:
            await answer(scope, exchange.receive, exchange.send)

    def _log(self, scope: Scope, exchange: Exchange, seconds: float) -> None:
        line: dict[str, Any] = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "method": scope.get("method", "WEBSOCKET"),
            "route": route_of(scope),
            "status": exchange.status,
            "ms": round(1000 * seconds, 1),
            "flyte_ms": round(1000 * exchange.calls.seconds, 1),
            "request_id": exchange.calls.request_id,
            "subject": quote(exchange.calls.subject or "-", safe="@:|"),
        }
        is_json = self.settings.access_log == "json"
        logger.info(json.dumps(line) if is_json else " ".join(map(str, line.values())))
