"""The door: which requests get in, and with which credentials.

A request is refused by the first of these that it meets:

- Starlette's CORS middleware, if any origin is trusted, with 400 if it is a preflight of another;
- `RequestMiddleware`, with 414 if its query is too long, and with 403 if it asks for a WebSocket, or a page of
  another site sent it;
- ``passthrough_auth.py``, by its credentials: 401 without any, 400, 403, 431;
- ``callers.py``, with 429 if its caller has too many requests open;
- ``bodies.py``, with 401 if its body is large and Flyte does not know the caller;
- FastAPI, with 404 or 405, or Starlette, with 413 if its body is too large (``limits.py`` says who
  else does);
- FastAPI, with 422 for invalid values; then the endpoint, and Flyte.
"""

import logging
import re
import time
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from random import Random
from typing import Any

from opentelemetry import trace
from starlette._utils import get_route_path  # Starlette's own routing uses it
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from ..calls.request_state import current_request
from ..calls.sdk import act_in, initialised
from ..limits import current_limits
from ..passthrough_auth import FastAPIPassthroughAuthMiddleware as PassthroughAuth
from ..passthrough_auth import HeaderExtractor
from ..settings import SETTINGS, Settings
from .exchange import HEADERS, SSE_RETRY, Exchange
from .problems import logged_problem, problem_response, route_of

logger = logging.getLogger("app.access")
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
EXPOSED = ("Location", "Retry-After", "WWW-Authenticate", "X-Omitted-Count", "X-Request-ID")
MOST_QUERY = 8 * 1024  # bytes: to parse more takes long, and proxies pass on no more
IS_PUBLIC = "passthrough.is_public"  # the key of ASGI's scope for what `is_public` has told
_numbers = Random()  # noqa: S311 - no secret. `secrets` releases the interpreter: 20 us
OWN_SITE = (b"none", b"same-origin")


def is_public(scope: Mapping[str, Any], public: Collection[str]) -> bool:
    """Tell whether a request needs no credentials, by its path without the server's prefix.

    ``/page/*`` in ``public`` stands for each path directly below ``/page/``.
    """
    path = get_route_path(scope)  # type: ignore[arg-type]
    return path in public or f"{path.rpartition('/')[0]}/*" in public


def for_trusted_origins(settings: Settings) -> list[Middleware]:
    """Return middleware that answers preflights, unlogged, and lets trusted pages read answers."""
    options: dict[str, Any] = {"allow_methods": ["*"], "allow_headers": ["*"]}
    options |= {"allow_credentials": True, "expose_headers": EXPOSED}
    origins = settings.trusted_origins
    return [Middleware(CORSMiddleware, allow_origins=origins, **options)] if origins else []


class RequestMiddleware:
    """Gives each request an identifier, refuses it or passes it on, answers its errors, logs it.

    A request keeps its ``X-Request-ID`` if that is well-formed, or gets one, for the response, the
    calls to Flyte and the request's span. No WebSocket is accepted.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: Settings,
        public: Collection[str],
        headers: Mapping[str, str],
    ) -> None:
        self.app, self.settings, self.public = app, settings, public
        self._trusted = {origin.encode() for origin in settings.trusted_origins}
        more = HEADERS | {name.lower(): value for name, value in headers.items()}
        self._headers = [(name.encode(), value.encode()) for name, value in more.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] != "http":
            app = self.app if scope["type"] == "lifespan" else WebSocketClose()
            await app(scope, receive, send)
            return
        began = time.perf_counter()
        scope[SETTINGS], scope[IS_PUBLIC] = self.settings, is_public(scope, self.public)
        sent = dict(scope["headers"])
        request_id = sent.get(b"x-request-id", b"").decode("latin-1")
        if not REQUEST_ID.fullmatch(request_id):
            request_id = f"{_numbers.getrandbits(128):032x}"
        trace.get_current_span().set_attribute("request_id", request_id)
        current_limits.set(self.settings.limits)
        timeout = self.settings.flyte_timeout
        exchange = Exchange(receive, send, self._headers, timeout, request_id)
        current_request.set(exchange.state)
        try:
            error = self._refusal(scope, sent) or await exchange.run(self.app, scope)
            if error:
                await self._send_error(scope, exchange, error)
            elif exchange.is_event_stream:
                await exchange.end_events(SSE_RETRY if exchange.was_cancelled else b"")
        except ClientDisconnect:
            pass  # while it was told
        finally:
            if self.settings.access_log and logger.isEnabledFor(logging.INFO):
                self._log(scope, exchange, time.perf_counter() - began)

    def _refusal(self, scope: Scope, sent: Mapping[bytes, bytes]) -> HTTPException | None:
        if len(scope["query_string"]) > MOST_QUERY:
            return HTTPException(414, f"a query may have up to {MOST_QUERY} bytes")
        if b"websocket" in sent.get(b"upgrade", b"").lower():
            # The server passes it on as a GET. For a page of the same site, Chromium sends it with
            # cookies and without Sec-Fetch-Site, so what follows would let it pass.
            return HTTPException(403, "no WebSocket is accepted: use an event stream")
        is_own = sent.get(b"sec-fetch-site", b"none") in OWN_SITE
        is_link = sent.get(b"sec-fetch-dest") == b"document"
        if scope[IS_PUBLIC] or is_own or is_link or sent.get(b"origin") in self._trusted:
            return None
        # A page of another origin sent it. Even the time that a GET takes can tell that page
        # something about its visitor. ``passthrough_auth.py`` leaves GET alone, but covers
        # browsers that are too old for Sec-Fetch-Site.
        return HTTPException(403, "Cross-site request refused")

    async def _send_error(self, scope: Scope, exchange: Exchange, error: BaseException) -> None:
        """Answer an error, if the client is still there, and log a bug.

        Of an event stream that has begun, the problem is the last event. Any other response that
        has begun is left unfinished: the server cuts it off, so nobody takes it for complete.
        """
        connection = HTTPConnection(scope)
        if exchange.has_left:
            if not isinstance(error, ClientDisconnect):
                logged_problem(connection, error)
        elif not exchange.status:
            await problem_response(connection, error)(scope, exchange.receive, exchange.send)
        else:
            data = bytes(logged_problem(connection, error).response().body)
            if exchange.is_event_stream:
                await exchange.end_events(b"event: problem\ndata: %b\n\n" % data)

    def _log(self, scope: Scope, exchange: Exchange, seconds: float) -> None:
        state = exchange.state
        line: dict[str, Any] = {
            "method": scope["method"],
            "route": route_of(scope),
            "status": exchange.status or 499,  # nginx's, only in the log: the client has left
            "duration_ms": round(1000 * seconds, 1),
            "flyte_duration_ms": round(1000 * state.seconds, 1),
            "request_id": state.request_id,
            "caller_hash": state.caller_hash or "-",
            "subject": (state.caller and state.caller.subject) or "-",
        }
        # `logger.info` would look for the line of code that has called it.
        text = " ".join(map(str, line.values()))
        record = logging.LogRecord(logger.name, logging.INFO, "", 0, text, None, None)
        record.fields = line
        logger.handle(record)


class PrivateRoutesMiddleware:
    """Middleware for all but public requests; the outermost is the first.

    ``excluded_paths`` of the passthrough middleware would exclude a path from that one only.
    """

    def __init__(self, app: ASGIApp, middleware: Sequence[Middleware]) -> None:
        self._app = self._wrapped = app
        for kind, args, options in reversed(middleware):
            self._wrapped = kind(self._wrapped, *args, **options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        is_open = scope.get(IS_PUBLIC, True)  # as is the lifespan
        await (self._app if is_open else self._wrapped)(scope, receive, send)


def _in_project_and_domain(app: ASGIApp) -> ASGIApp:
    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if query := scope["query_string"]:
            asked = QueryParams(query)
            act_in(initialised(), asked.get("project"), asked.get("domain"))
        await app(scope, receive, send)

    return serve


ProjectDomain = Middleware(_in_project_and_domain)
"""Inside the passthrough middleware: callers may name the project and domain of their calls to
Flyte, as ``?project=`` and ``?domain=`` of every endpoint. Without it they cannot."""


def passthrough_middleware(settings: Settings) -> Middleware:
    """Return the middleware that calls Flyte with each request's own credentials.

    Its refusals are problems. If ``token_header`` is set, Authorization is ignored, even in
    requests without that header: the client sets Authorization, not the proxy.
    """
    extractors: list[HeaderExtractor] = [
        PassthroughAuth.extract_cookie_header,
        *map(PassthroughAuth.extract_custom_header, settings.credential_headers),
        partial(_handed_on, settings.token_header)
        if settings.token_header
        else PassthroughAuth.extract_authorization_header,
    ]
    if settings.flyte_plaintext:
        # Everybody is admitted, anonymously: Flyte gets no credentials anyway. With this
        # placeholder, pages of other sites are refused; ``required=False`` would let them pass.
        extractors.append(lambda _: ("x-flyte-caller", "nobody"))
    return Middleware(
        PassthroughAuth,
        header_extractors=extractors,
        cookie_names=settings.cookie_names,
        trusted_origins=settings.trusted_origins,
        assume_ambient=True,  # a proxy may turn a cookie into another credential
        refusal_handler=problem_response,
    )


def _handed_on(token_header: str, request: HTTPConnection) -> tuple[str, str] | None:
    """Return the bearer token that a proxy passes on."""
    # If there are two tokens, one is not the proxy's, and nobody can tell which. So they are joined
    # by a line break, which the middleware refuses. In one header they have a comma between them
    # (RFC 9110 5.3).
    tokens = "\n".join(request.headers.getlist(token_header)).replace(",", "\n").strip()
    return ("authorization", f"Bearer {tokens}") if tokens else None
