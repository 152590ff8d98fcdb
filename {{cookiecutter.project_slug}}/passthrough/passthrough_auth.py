# passthrough_auth 2.0.3: one file of the cookiecutter template for Flyte 2 apps, usable alone.
# docs/copying-the-middleware.md lists the hash of each version. SPDX-License-Identifier: Apache-2.0
"""ASGI middleware that makes each request call Flyte with the credentials of the caller.

The middleware reads credentials from the request headers, enters ``flyte.remote.auth_metadata``
around the application, and stores nothing. Use it instead of the SDK's class of the same name::

    app.add_middleware(FastAPIPassthroughAuthMiddleware, excluded_paths={"/health"})

If a request abandons an async generator, the event loop closes the generator later without
credentials. Python may run a ``__del__`` method, or the ``finally`` block of an abandoned plain
generator, with the credentials of another caller. Do not call Flyte there.
"""

from __future__ import annotations  # saves time, because Python does not evaluate annotations

import contextvars
import inspect
import logging
import re
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from flyte import __version__, remote
from starlette.exceptions import HTTPException
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

logger = logging.getLogger(__name__)
HeaderExtractor = Callable[[Any], tuple[str, str] | None]
"""A function that takes a ``Request`` or, for a WebSocket, an ``HTTPConnection``. The function
returns the name and the value of a header for Flyte, or None."""
# The bytes that a header value may contain (RFC 9110 5.5).
_FIELD_BYTES = bytes([0x09, *range(0x20, 0x7F), *range(0x80, 0x100)])
# Matches lower-case names (RFC 9110 5.6.2) of headers that the middleware may forward. The pattern
# excludes hop-by-hop headers (RFC 9110 7.6.1), and headers for message framing or RPC.
_SETTABLE = re.compile(
    r"(?!(content|connect|grpc|proxy)-|(accept-encoding|connection|expect|host|http2-settings"
    r"|keep-alive|te|trailer|transfer-encoding|upgrade)$)[!#$%&'*+.^_`|~0-9a-z-]+"
)
# Safe methods (RFC 9110 9.2.1). A WebSocket scope has no method, so it does not count as safe.
_SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))
# Matches an origin (RFC 6454 6.2) in lower case, because browsers send origins in lower case.
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@*\sA-Z]+")


def _find_metadata_var() -> contextvars.ContextVar[Any]:
    """Return the context variable with the credentials; raise ImportError if it cannot be found."""
    with remote.auth_metadata(("authorization", "probe")):
        variables = list(contextvars.copy_context())
    if (count := len(variables)) != 1:
        raise ImportError(f"cannot isolate callers: {count} variables in flyte {__version__}")
    return variables[0]


# The SDK has no public name for the context variable with the credentials. `auth_metadata` sets no
# other context variable.
_METADATA = contextvars.Context().run(_find_metadata_var)
# A thread of a pool would keep the credentials of the request that has started the thread.
if getattr(sys.flags, "thread_inherit_context", False):
    raise ImportError("cannot isolate callers: start Python with -X thread_inherit_context=0")


def _close_as_nobody(close: Callable[[Any], None]) -> None:
    """Make the event loop close abandoned async generators in an empty context.

    Garbage collection can start during any request. Without this function, ``close``, which is the
    event loop's finalizer of generators, could run with the credentials of an unrelated request.
    """

    def close_as_nobody(generator: Any) -> None:
        contextvars.Context().run(close, generator)

    sys.set_asyncgen_hooks(finalizer=close_as_nobody)


def _outside(call: Callable[..., Any], before: Any, vary: bool = False) -> Callable[..., Any]:
    """Wrap the server's ``receive`` or ``send``, so that it runs without the caller's credentials.

    Inside ``receive`` or ``send``, a server may start the next request of the connection, for
    example after a large upload (CPython issue 140947). Without this wrapper, the next request
    would inherit the credentials.

    Args:
        call: The function ``receive`` or ``send``.
        before: The value of ``_METADATA`` before the request.
        vary: Whether to add ``Vary: Cookie`` to the response.
    """

    async def outside(message: Message | None = None) -> Any:
        if vary and message and message["type"] == "http.response.start":
            headers = [*message.get("headers", ())]
            vary_on = [value for name, value in headers if name.lower() == b"vary"] + [b"Cookie"]
            headers = [pair for pair in headers if pair[0].lower() != b"vary"]
            message = {**message, "headers": [*headers, (b"vary", b", ".join(vary_on))]}
        token = _METADATA.set(before)
        try:
            return await (call(message) if message else call())
        finally:
            _METADATA.reset(token)

    return outside


def _settable(name: str) -> str:
    """Return a header name in lower case.

    Raises:
        ValueError: Calls to Flyte must not have this header.
    """
    if not _SETTABLE.fullmatch(name.lower()):
        raise ValueError(f"not a header that may be set on a call to Flyte: {name!r}")
    return name.lower()


class _Header:
    """Extracts one header. An instance has a ``__name__``, because the SDK's extractors have it."""

    def __init__(self, header: str, name: str) -> None:
        self.key, self.__name__ = _settable(header), name
        self.raw_key = self.key.encode()

    def __call__(self, request: HTTPConnection) -> tuple[str, str] | None:
        getlist = getattr(request.headers, "getlist", None)
        values = getlist(self.key) if getlist else [request.headers.get(self.key) or ""]
        headers = _by_name([(self.raw_key, _as_bytes(value)) for value in values])
        value = headers.get(self.raw_key, b"").decode("latin-1")
        return (self.key, value) if value.strip() else None


class FastAPIPassthroughAuthMiddleware(BaseHTTPMiddleware):
    """Serves HTTP requests and WebSockets with the Flyte credentials of the caller.

    The middleware refuses a request

    - with 401 if it has no credentials,
    - with 400 or 431 if the credentials are ambiguous or cannot be forwarded unchanged,
    - with 403 if another website may have sent the request (CSRF). The CSRF check applies to
      WebSockets and to requests with an unsafe method (RFC 9110 9.2.1).

    The middleware refuses a WebSocket during the handshake. CORS preflights need no credentials.
    """

    extract_authorization_header = _Header("authorization", "extract_authorization_header")
    extract_cookie_header = _Header("cookie", "extract_cookie_header")

    def __init__(
        self,
        app: ASGIApp,
        header_extractors: Sequence[HeaderExtractor] | None = None,
        excluded_paths: Collection[str] | None = None,
        *,
        required: bool = True,
        cookie_names: Collection[str] | None = None,
        trusted_origins: Collection[str] = (),
        assume_ambient: bool = False,
        refusal_handler: Callable[[HTTPConnection, HTTPException], Response] | None = None,
    ) -> None:
        """Wrap an application.

        Args:
            app: The ASGI application.
            header_extractors: Sync functions that return the name and value of a header to forward.
                The default functions return Authorization and Cookie. The middleware ignores a
                function that raises or does not return two non-blank strings.
            excluded_paths: Paths that bypass this middleware. Each path must equal the complete
                ``scope["path"]``. The middleware does not copy the collection, so you can add paths
                later.
            required: Whether to refuse requests without credentials.
            cookie_names: Names of cookies to forward. With None, the middleware forwards the
                complete Cookie header.
            trusted_origins: Other origins whose web pages may open WebSockets and send requests
                with unsafe methods, even without a bearer token.
            assume_ambient: Whether a proxy in front of the app may convert cookies to bearer
                tokens. If true, the middleware also checks requests with a bearer token for CSRF.
            refusal_handler: A function that returns the response to a refused request. By default,
                the response is a JSON object with ``detail``.

        Raises:
            TypeError: An extractor is async.
            ValueError: An origin is invalid.
        """
        super().__init__(app)
        if header_extractors is None:
            header_extractors = [self.extract_authorization_header, self.extract_cookie_header]
        if any(map(inspect.iscoroutinefunction, header_extractors)):
            raise TypeError("an extractor cannot be async: await in a middleware around this one")
        self.header_extractors = header_extractors
        if isinstance(excluded_paths, str):  # the operator "in" would match a part of a string
            excluded_paths = {excluded_paths}
        self.excluded_paths = set() if excluded_paths is None else excluded_paths
        self.required, self.assume_ambient = required, assume_ambient
        self.cookie_names = None if cookie_names is None else frozenset(cookie_names)
        self.trusted_origins = frozenset(trusted_origins)
        if wrong := [o for o in self.trusted_origins if not _ORIGIN.fullmatch(o)]:
            raise ValueError(f"not an origin such as 'https://example.com': {wrong[0]!r}")
        self.refusal_handler = refusal_handler or _refuse_in_json
        self._overridden = type(self).dispatch is not FastAPIPassthroughAuthMiddleware.dispatch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve an ASGI scope. Scopes other than ``http`` and ``websocket`` pass unchanged."""
        close = sys.get_asyncgen_hooks().finalizer
        # Recognise this hook by its name, because another copy of this file may have set it.
        if close and getattr(close, "__name__", "") != "close_as_nobody":
            _close_as_nobody(close)
        before = _METADATA.get()
        if self._overridden and scope["type"] == "http":  # the subclass has its own `dispatch`
            send = _outside(send, before, vary=b"cookie" in dict(scope["headers"]))
            await super().__call__(scope, _outside(receive, before), send)
            return
        app = self.app
        try:
            credentials = self.credentials(scope)
        except HTTPException as refusal:
            app, credentials = self._refusing_app(scope, refusal), {}
        if not credentials:
            await app(scope, receive, send)
            return
        send = _outside(send, before, vary="cookie" in credentials)
        with remote.auth_metadata(*credentials.items()):
            await app(scope, _outside(receive, before), send)

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        """Serve one HTTP request. Subclasses may override this method or call it."""
        try:
            credentials = self.credentials(request.scope)
        except HTTPException as refusal:
            return self.refusal_handler(request, refusal)
        if not credentials:
            return await call_next(request)
        with remote.auth_metadata(*credentials.items()):
            return await call_next(request)

    def credentials(self, scope: Scope) -> dict[str, str]:
        """Return the credentials by header name. Raise an HTTPException to refuse the request."""
        if scope["type"] not in ("http", "websocket") or scope["path"] in self.excluded_paths:
            return {}
        headers, credentials = _by_name(scope["headers"]), {}
        for extractor in self.header_extractors:
            if type(extractor) is _Header:
                key, value = extractor.key, headers.get(extractor.raw_key, b"")
            else:
                key, value = _extract(extractor, _connection(scope))
            if key == "cookie" and self.cookie_names is not None:
                value = _choose_cookies(value, self.cookie_names)
            if value and not (text := _sendable(value)).isspace():
                credentials[key] = text
        if credentials:
            if scope.get("method") not in _SAFE_METHODS and self._is_foreign(headers):
                raise HTTPException(403, "Cross-site request refused")
        elif self.required:
            # Browsers send CORS preflights without credentials, so the application responds.
            is_cors = headers.get(b"origin") and headers.get(b"access-control-request-method")
            if not is_cors or scope.get("method") != "OPTIONS":
                challenge = {"www-authenticate": "Bearer"}
                raise HTTPException(401, "Authentication credentials required", challenge)
        return credentials

    def _is_foreign(self, headers: Mapping[bytes, bytes]) -> bool:
        """Return whether another origin may have sent the request.

        Go's CrossOriginProtection makes similar checks.
        """
        origin = headers.get(b"origin", b"").decode("latin-1")
        if origin in self.trusted_origins:
            return False
        # Browsers never add a bearer token themselves. A page of another origin can add a bearer
        # token only if a CORS preflight allows that.
        if not self.assume_ambient and headers.get(b"authorization", b"")[:7].lower() == b"bearer ":
            return False
        # Browsers since 2023 send this header, and pages cannot change it.
        if site := headers.get(b"sec-fetch-site"):
            return site not in (b"same-origin", b"none")
        # Older browsers send Origin; other clients do not. A proxy may have changed the scheme, so
        # ignore the scheme.
        host = headers.get(b"host", b"").decode("latin-1").lower()
        return origin != "" and origin.lower() not in (f"http://{host}", f"https://{host}")

    def _refusing_app(self, scope: Scope, refusal: HTTPException) -> ASGIApp:
        if scope["type"] == "http" or "websocket.http.response" in (scope.get("extensions") or ()):
            return self.refusal_handler(_connection(scope), refusal)
        return WebSocketClose(1008, refusal.detail)

    @staticmethod
    def extract_custom_header(header_name: str) -> HeaderExtractor:
        """Return an extractor for a header. The extractor returns the name in lower case."""
        return _Header(header_name, f"extract_{header_name.replace('-', '_')}_header")


def _refuse_in_json(_: HTTPConnection, refusal: HTTPException) -> Response:
    body = b'{"detail":"%b"}' % refusal.detail.encode()  # no detail needs escaping
    return Response(body, refusal.status_code, refusal.headers, "application/json")


def _connection(scope: Scope) -> HTTPConnection:
    return Request(scope) if scope["type"] == "http" else HTTPConnection(scope)


def _by_name(headers: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Return header values by name. Join the values of a repeated header (RFC 9110 5.3)."""
    if len(by_name := dict(headers)) < len(headers):
        values: dict[bytes, list[bytes]] = {name: [] for name in by_name}
        for name, value in headers:
            values[name] += [value.strip()] if value.strip() else []
        if len(set(values.get(b"authorization", ()))) > 1:
            raise HTTPException(400, "Conflicting Authorization headers")
        by_name = {name: b", ".join(dict.fromkeys(list_)) for name, list_ in values.items()}
        by_name[b"cookie"] = b"; ".join(values.get(b"cookie", ()))  # RFC 9113 8.2.3
    return by_name


def _extract(extractor: HeaderExtractor, request: HTTPConnection) -> tuple[str, bytes]:
    """Return a lower-case header name and a value, or two empty strings if there is none."""
    try:
        if (result := extractor(request)) is not None:
            key, value = result if isinstance(result, tuple | list) else ("", "")
            return _settable(key), _as_bytes(value)
    except Exception as error:  # noqa: BLE001 - any failure means no credential
        # Log only the type, because the message and the traceback may contain the credential.
        function = getattr(extractor, "func", extractor)
        name = getattr(function, "__name__", type(function).__name__)
        logger.warning("Header extractor %s failed: %s", name, type(error).__name__)
    return "", b""


def _as_bytes(value: str) -> bytes:
    """Encode a header value in Latin-1, as Starlette decodes it, or in UTF-8 if that fails."""
    return value.encode("latin-1" if value.isascii() or max(value) <= "\xff" else "utf-8")


def _choose_cookies(value: bytes, names: Collection[str]) -> bytes:
    """Return the cookies with these names. Refuse a request with two values for one name."""
    cookies = [cookie.strip(b" \t") for cookie in value.split(b";")]
    chosen = {c: name for c in cookies if (name := c.partition(b"=")[0].decode("latin-1")) in names}
    if len(chosen) > len(set(chosen.values())):
        raise HTTPException(400, "Conflicting cookies")
    return b"; ".join(chosen)


def _sendable(value: bytes) -> str:
    """Decode a header value from UTF-8, because the SDK encodes header values as UTF-8.

    Refuse the request if the SDK could not send the value unchanged, or if the value is too long.
    """
    if len(value) > 65_536:  # servers and proxies in front of Flyte refuse larger headers
        raise HTTPException(431, "Credentials too large")
    text = value.decode("utf-8", "replace")
    if "\ufffd" in text or value.translate(None, _FIELD_BYTES):
        raise HTTPException(400, "Malformed credentials")
    return text
