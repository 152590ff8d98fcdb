"""The outermost middleware, and the order of the others.

A request is refused by the first of these that it meets:

- Starlette's CORS middleware, if any origin is trusted: 400 for another origin's preflight;
- `RequestMiddleware`: 414 for a long query, 431 for many cookies, 403 for a WebSocket;
- `CallerMiddleware` (``forwarding.py``): 401 without credentials, 400 and 431 for ambiguous and
  large ones, 403 if a page of another site sent the request;
- `ConcurrencyLimitMiddleware` (``callers.py``): 429 if the caller has too many open requests;
- `RequestBodyMiddleware` (``bodies.py``): 401 for a large body if Flyte does not know the caller;
- FastAPI and Starlette: 404, 405, and 413 for a large body (``limits.py`` lists the others);
- FastAPI: 422 for invalid values; then the endpoint, and Flyte.

`PrivateRoutesMiddleware` contains the second three: public paths skip them. The developer's
middleware is between the first and the last two, or, if it is given to `App`, after
`CallerMiddleware`.
"""

import logging
import re
import time
from collections.abc import Collection, Mapping, Sequence
from random import Random
from typing import Any

from opentelemetry import trace
from starlette._utils import get_route_path  # Starlette's own routing uses it
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from ..calls.request_state import RequestState, current_request
from ..limits import current_limits
from ..settings import Settings
from .cancellation import Cancellation
from .headers import ResponseHeaders
from .problems import logged_problem, problem_response, route_of
from .response import SSE_RETRY, ResponseSender

logger = logging.getLogger("app.access")
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
EXPOSED = ("Location", "Retry-After", "WWW-Authenticate", "X-Omitted-Count", "X-Request-ID")
MAX_QUERY_BYTES = 8 * 1024  # proxies pass on no more
MAX_QUERY_NAMES = 200  # 500 queries of 4,000 names would hold the event loop for three seconds
MAX_COOKIES = 300  # 500 requests with 29,000 cookies would hold the event loop for two seconds
_numbers = Random()  # noqa: S311 - no secret. `secrets` releases the interpreter: 20 us


def is_public(path: str, public: Collection[str]) -> bool:
    """Tell whether a path, without the server's prefix, needs no credentials.

    ``/page/*`` in ``public`` stands for each path directly below ``/page/``.
    """
    return path in public or f"{path.rpartition('/')[0]}/*" in public


def for_trusted_origins(settings: Settings) -> list[Middleware]:
    """Return middleware that answers preflights, and lets trusted pages read responses."""
    options: dict[str, Any] = {"allow_methods": ["*"], "allow_headers": ["*"]}
    options |= {"allow_credentials": True, "expose_headers": EXPOSED}
    origins = settings.trusted_origins
    return [Middleware(CORSMiddleware, allow_origins=origins, **options)] if origins else []


class RequestMiddleware:
    """Gives each request an identifier, refuses it or passes it on, sends its errors, logs it.

    A request keeps its ``X-Request-ID`` if that is well-formed, or gets one, for the response, the
    calls to Flyte and the request's span. No WebSocket is accepted.
    """

    def __init__(self, app: ASGIApp, settings: Settings, headers: Mapping[str, str]) -> None:
        self.app, self.settings = app, settings
        self._headers = ResponseHeaders(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] != "http":
            app = self.app if scope["type"] == "lifespan" else WebSocketClose()
            await app(scope, receive, send)
            return
        began = time.perf_counter()
        headers = dict(scope["headers"])
        cancellation = Cancellation(receive, self.settings, _request_id(headers))
        response = ResponseSender(send, self._headers, cancellation)
        current_limits.set(self.settings.limits)
        current_request.set(cancellation.state)
        try:
            if not (error := _refusal(scope, headers)):
                error = await cancellation.run(self.app, scope, response.send)
            await _finish(scope, cancellation, response, error)
        except ClientDisconnect:
            pass  # while the error or the end was sent
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
    query: bytes = scope["query_string"]
    if len(query) > MAX_QUERY_BYTES:
        return HTTPException(414, f"a query may have up to {MAX_QUERY_BYTES} bytes")
    if query.count(b"&") >= MAX_QUERY_NAMES:
        return HTTPException(414, f"a query may have up to {MAX_QUERY_NAMES} names")
    if b"cookie" in headers:
        cookies = (value.count(b";") + 1 for name, value in scope["headers"] if name == b"cookie")
        if sum(cookies) > MAX_COOKIES:
            return HTTPException(431, f"a request may have up to {MAX_COOKIES} cookies")
    if b"websocket" in headers.get(b"upgrade", b"").lower():
        # The server passes it on as a GET. For a page of the same site, Chromium sends it with
        # cookies and without Sec-Fetch-Site, so `CallerMiddleware` would let it pass.
        return HTTPException(403, "no WebSocket is accepted: use an event stream")
    return None


async def _finish(
    scope: Scope,
    cancellation: Cancellation,
    response: ResponseSender,
    error: BaseException | None,
) -> None:
    """Send an error, or the end of an event stream, if the client is still there; log a bug.

    If an event stream has begun, the problem is its last event. Any other response that has begun
    is left unfinished: the server cuts it off, so that no client takes it for complete.
    """
    is_as_usual = not error and cancellation.is_complete and not response.events
    if is_as_usual or isinstance(error, ClientDisconnect):
        return
    connection = HTTPConnection(scope)
    if isinstance(cancellation.reason, ClientDisconnect):
        if error:
            logged_problem(connection, error)
    elif response.events and error and error is cancellation.reason:
        await response.events.end(SSE_RETRY)
    elif error and not response.status:
        await problem_response(connection, error)(scope, cancellation.receive, response.send)
    elif response.events:
        data = error and bytes(logged_problem(connection, error).response().body)
        await response.events.end(b"event: problem\ndata: %b\n\n" % data if data else b"")
    elif error or (response.status and not cancellation.is_complete):
        logged_problem(connection, error or RuntimeError("the response is incomplete"))


def _log(scope: Scope, state: RequestState, status: int, seconds: float) -> None:
    line: dict[str, Any] = {
        "method": scope["method"],
        "route": route_of(scope),
        "status": status or 499,  # nginx's, only in the log: the client has left
        "duration_ms": round(1000 * seconds, 1),
        "flyte_duration_ms": round(1000 * state.calls.seconds, 1),
        "request_id": state.request_id,
        "caller_hash": state.caller.hash or "-",
        "subject": state.caller.subject or "-",
    }
    # `logger.info` would look for the line of code that has called it.
    text = " ".join(map(str, line.values()))
    record = logging.LogRecord(logger.name, logging.INFO, "", 0, text, None, None)
    record.fields = line
    logger.handle(record)


class PrivateRoutesMiddleware:
    """Wraps the app in middleware, the outermost first, for all requests but those to public paths.

    ``excluded_paths`` of the passthrough middleware would exclude a path from that one only.
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
