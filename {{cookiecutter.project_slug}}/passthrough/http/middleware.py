"""The outermost middleware of the app, and the order of all middleware.

A request passes the following middleware from top to bottom. The first middleware that refuses the
request determines the status:

1. Starlette's CORS middleware, if there are trusted origins: 400 for a preflight of another origin.
2. `RequestMiddleware`: 414 if the query is too long, 403 for a WebSocket, 400 for another
   ``Upgrade`` with a body.
3. Middleware that the developer adds with ``app.add_middleware``.
4. `PrivateRoutesMiddleware` runs the following middleware for requests to private paths only:

   - `CallerMiddleware` (``forwarding.py``): 401 if there are no credentials, 400 or 431 if the
     credentials are ambiguous or too large, 403 for a cross-site request.
   - Other middleware that the developer lists in ``App(middleware=…)``.
   - `ConcurrencyLimitMiddleware` (``callers.py``): 429 if the caller has too many open requests.

5. `RequestBodyMiddleware` (``bodies.py``): 401 for an upload if Flyte does not know the caller.
6. Starlette and FastAPI: 404, 405, 413 for a large body, and 422 for invalid values.
7. The endpoint and Flyte: any status (``problems.py``). ``limits.py`` lists causes of 413 and 422.
"""

import logging
import re
import time
from collections.abc import Collection, Mapping, Sequence
from random import Random
from typing import Any

from opentelemetry import trace
from starlette._utils import get_route_path  # returns the path that Starlette compares with routes
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from ..calls.request_state import RequestState, current_request
from ..limits import current_limits
from ..settings import Settings
from .bodies import size_of_body
from .cancellation import OUTER_REQUEST, Cancellation
from .headers import ResponseHeaders
from .problems import logged_problem, problem_response, route_of
from .response import SSE_RETRY, ResponseSender

logger = logging.getLogger("app.access")
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
EXPOSED = ("Location", "Retry-After", "WWW-Authenticate", "X-Omitted-Count", "X-Request-ID")
MAX_QUERY_BYTES = 8 * 1024  # most proxies also refuse longer queries
_numbers = Random()  # noqa: S311 - identifiers are not secret; `secrets` would take 20 us


def is_public(path: str, public: Collection[str]) -> bool:
    """Return whether a path (without the path prefix of the server) needs no credentials.

    ``/page/*`` in ``public`` stands for each path directly below ``/page/``.
    """
    return path in public or f"{path.rpartition('/')[0]}/*" in public


def for_trusted_origins(settings: Settings) -> list[Middleware]:
    """Return the CORS middleware, or an empty list if there are no trusted origins."""
    options: dict[str, Any] = {"allow_methods": ["*"], "allow_headers": ["*"]}
    options |= {"allow_credentials": True, "expose_headers": EXPOSED}
    origins = settings.trusted_origins
    return [Middleware(CORSMiddleware, allow_origins=origins, **options)] if origins else []


class RequestMiddleware:
    """Sets the request identifier and state, calls the app, sends errors, and logs the request.

    The identifier is the header ``X-Request-ID`` of the request. If this header is missing or
    malformed, the middleware makes a new identifier. The response, the calls to Flyte and the span
    of OpenTelemetry contain the identifier. The middleware refuses WebSockets.
    """

    def __init__(self, app: ASGIApp, settings: Settings, headers: Mapping[str, str]) -> None:
        self.app, self.settings = app, settings
        self._headers = ResponseHeaders(headers)
        names = ("cookie", "proxy-authorization", *settings.credential_headers)
        names += ("authorization", settings.token_header or "authorization")
        self._credential_headers = {name.lower().encode() for name in names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] != "http":
            app = self.app if scope["type"] == "lifespan" else WebSocketClose()
            await app(scope, receive, send)
            return
        began = time.perf_counter()
        headers = dict(scope["headers"])
        request_id, outer = _request_id(headers), scope.get(OUTER_REQUEST)
        cancellation = Cancellation(receive, self.settings, request_id, outer)
        response = ResponseSender(send, self._headers, cancellation)
        current_limits.set(self.settings.limits)
        current_request.set(cancellation.state)
        # Logs omit all credentials, including those that the app does not forward to Flyte.
        cancellation.state.caller.credentials = tuple(
            (name.decode(), value.decode("latin-1"))
            for name, value in scope["headers"]
            if name in self._credential_headers
        )
        try:
            if not (error := _refusal(scope, headers)):
                error = await cancellation.run(self.app, scope, response.send)
            await _finish(scope, cancellation, response, error)
        except ClientDisconnect:
            pass  # the client has disconnected during `_finish`
        finally:
            if self.settings.access_log and logger.isEnabledFor(logging.INFO):
                _log(scope, cancellation.state, response.status, time.perf_counter() - began)


def _request_id(headers: Mapping[bytes, bytes]) -> str:
    request_id = headers.get(b"x-request-id", b"").decode("latin-1")
    if not REQUEST_ID.fullmatch(request_id):
        request_id = f"{_numbers.getrandbits(128):032x}"
    trace.get_current_span().set_attribute("request_id", request_id)
    return request_id


def _refusal(scope: Scope, headers: Mapping[bytes, bytes]) -> BaseException | None:
    if len(scope["query_string"]) > MAX_QUERY_BYTES:
        return HTTPException(414, f"a query may have up to {MAX_QUERY_BYTES} bytes")
    if b"websocket" in headers.get(b"upgrade", b"").lower():
        # uvicorn passes a WebSocket handshake to the app as a GET. Endpoints must not serve a
        # handshake, because browsers send cookies in it, and Chromium sends no Sec-Fetch-Site.
        return HTTPException(403, "no WebSocket is accepted: use an event stream")
    if b"upgrade" in headers and size_of_body(scope):
        # uvicorn loses the body of a request with ``Upgrade`` (see ``server.py``).
        return HTTPException(400, "a request with a body cannot have the header Upgrade")
    return None


async def _finish(
    scope: Scope,
    cancellation: Cancellation,
    response: ResponseSender,
    error: BaseException | None,
) -> None:
    """Send the error or the end of an event stream, unless the client has disconnected.

    If the app has failed before the response began, the response is a problem (RFC 9457). If the
    app has failed during an event stream, the last event is a problem. If the deadline passes or
    the server stops during an event stream, the stream ends with `SSE_RETRY`. If the app has failed
    during a response that is not an event stream, the response stays incomplete. The server closes
    the connection after an incomplete response, so the client notices the error.
    """
    is_finished = not error and cancellation.is_complete and not response.events
    if is_finished or isinstance(error, ClientDisconnect):
        return
    connection = HTTPConnection(scope)
    if isinstance(cancellation.reason, ClientDisconnect):
        if error:
            logged_problem(connection, error)
    elif response.events and error and error is cancellation.reason:  # a deadline, or a stop
        await response.events.send(SSE_RETRY, is_end=True)
    elif error and not response.status:
        await problem_response(connection, error)(scope, cancellation.receive, response.send)
    elif response.events and error:
        data = bytes(logged_problem(connection, error).response().body)
        await response.events.send(b"event: problem\ndata: %b\n\n" % data, is_end=True)
    elif response.events:
        await response.events.send(b"", is_end=True)
    elif error or (response.status and not cancellation.is_complete):
        logged_problem(connection, error or RuntimeError("the response is incomplete"))


def _log(scope: Scope, state: RequestState, status: int, seconds: float) -> None:
    """Write a line of the access log.

    `LogFormatter` does not redact these fields, because they cannot contain credentials. If you add
    a field that the client controls, such as a header, redact the value here.
    """
    line: dict[str, Any] = {
        "method": scope["method"],
        "route": route_of(scope),
        "status": status or 499,  # if the client disconnects early, nginx also logs 499
        "duration_ms": round(1000 * seconds, 1),
        "flyte_duration_ms": round(1000 * state.calls.seconds, 1),
        "request_id": state.request_id,
        "caller_hash": state.caller.hash or "-",
        "subject": state.caller.subject or "-",
    }
    # `logger.info` would be slower, because it searches for the calling line of code.
    text = " ".join(map(str, line.values()))
    record = logging.LogRecord(logger.name, logging.INFO, "", 0, text, None, None)
    record.fields = line
    logger.handle(record)


class PrivateRoutesMiddleware:
    """Passes all requests through a list of middleware, except requests to public paths.

    The first middleware in the list is the outermost. The option ``excluded_paths`` cannot replace
    this class, because the option affects only the passthrough middleware.
    """

    def __init__(
        self, app: ASGIApp, public: Collection[str], middleware: Sequence[Middleware]
    ) -> None:
        self._app, self._public, self._wrapped = app, public, app
        for kind, args, options in reversed(middleware):
            self._wrapped = kind(self._wrapped, *args, **options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        is_open = scope["type"] != "http" or is_public(get_route_path(scope), self._public)
        await (self._app if is_open else self._wrapped)(scope, receive, send)
