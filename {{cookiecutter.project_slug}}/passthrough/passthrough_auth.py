# passthrough_auth 2.0.2: one file of the cookiecutter template for Flyte 2 apps, also to be copied.
# Its docs/copying-the-middleware.md has every version's hash. SPDX-License-Identifier: Apache-2.0
"""ASGI middleware that serves every request with its caller's own Flyte credentials.

It takes them from the request's headers, enters ``flyte.remote.auth_metadata`` around the
application, and keeps nothing. It replaces ``flyte.app.extras.FastAPIPassthroughAuthMiddleware``::

    app.add_middleware(FastAPIPassthroughAuthMiddleware, excluded_paths={"/health"})

An async generator that a request abandons is closed later, without credentials. ``__del__`` methods
and plain generators have no such protection: don't call Flyte in them.
"""

from __future__ import annotations  # inner functions' annotations would cost time in each request

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
"""Takes a ``Request``, or a WebSocket's ``HTTPConnection``; returns a header for Flyte, or None."""
_FIELD_BYTES = bytes([0x09, *range(0x20, 0x7F), *range(0x80, 0x100)])  # RFC 9110 5.5
# Lower-case names (RFC 9110 5.6.2), but not those of the connection (7.6.1), framing or RPC.
_SETTABLE = re.compile(
    r"(?!(content|connect|grpc|proxy)-|(accept-encoding|connection|expect|host|http2-settings"
    r"|keep-alive|te|trailer|transfer-encoding|upgrade)$)[!#$%&'*+.^_`|~0-9a-z-]+"
)
_SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))  # RFC 9110 9.2.1; a WebSocket has no method
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@*\sA-Z]+")  # RFC 6454 6.2, as browsers send it


def _find_metadata_var() -> contextvars.ContextVar[Any]:
    """Return the variable that keeps the credentials: ``auth_metadata`` sets no other."""
    with remote.auth_metadata(("authorization", "probe")):
        found = list(contextvars.copy_context())
    if len(found) != 1:
        raise ImportError(f"cannot isolate callers: {len(found)} variables in flyte {__version__}")
    return found[0]


# Flyte has no public name for this variable. In an empty context it is the only one that is set.
_METADATA = contextvars.Context().run(_find_metadata_var)
if getattr(sys.flags, "thread_inherit_context", False):  # threads of a pool outlive their request
    raise ImportError("cannot isolate callers: start Python with -X thread_inherit_context=0")


def _close_as_nobody(close: Callable[[Any], None]) -> None:
    """Have the running event loop close abandoned async generators in an empty context.

    The garbage collector finds one at any time: ``close``, the loop's own hook, would run in the
    context of whoever is served then.
    """

    def close_as_nobody(generator: Any) -> None:
        contextvars.Context().run(close, generator)

    sys.set_asyncgen_hooks(finalizer=close_as_nobody)


def _outside(call: Callable[..., Any], before: Any, vary: bool = False) -> Callable[..., Any]:
    """Wrap the server's ``receive`` or ``send`` to run without the caller's credentials.

    While they run, a server may start the connection's next request, for example after a large
    upload (CPython issue 140947): it would start with this request's credentials. With ``vary``,
    the response tells caches that it depends on the cookie.
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
    """Return a header's name in lower case, or raise ValueError."""
    if not _SETTABLE.fullmatch(name.lower()):
        raise ValueError(f"not a header that may be set on a call to Flyte: {name!r}")
    return name.lower()


class _Header:
    """An extractor for one header, which can be used as a function with a name."""

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
    """Serves HTTP requests and WebSockets with the Flyte credentials of their senders.

    A request is refused with 401 if it has no credentials, with 400 or 431 if they are ambiguous or
    cannot be forwarded unchanged, and with 403 if a page of another origin may have sent it, and it
    is a WebSocket or its method is unsafe (RFC 9110 9.2.1): the browser adds cookies, which the
    page itself cannot read. A WebSocket is refused before it is accepted. CORS preflights pass.
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
            app: the ASGI application.
            header_extractors: not async. They replace the default: Authorization, then Cookie. One
                that raises, or returns anything but two non-blank strings, has found nothing.
            excluded_paths: paths served as if this class were not there, each compared with the
                whole of ``scope["path"]``. The collection is not copied: later additions count.
            required: whether to refuse requests without credentials instead of serving them.
            cookie_names: the cookies to forward as credentials; None means the whole header.
            trusted_origins: other origins whose pages may send unsafe requests and open WebSockets
                without a bearer token; anything but an origin is a ValueError.
            assume_ambient: whether a proxy may turn cookies into bearer tokens: a page of another
                origin is then refused with a bearer token, too.
            refusal_handler: makes the response to a refused request; default: ``{"detail": ...}``.
        """
        super().__init__(app)
        if header_extractors is None:
            header_extractors = [self.extract_authorization_header, self.extract_cookie_header]
        if any(map(inspect.iscoroutinefunction, header_extractors)):
            raise TypeError("an extractor cannot be async: await in a middleware around this one")
        self.header_extractors = header_extractors
        if isinstance(excluded_paths, str):  # "in" would search the string
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
        """Serve one ASGI scope: check ``http`` and ``websocket``; pass on any other."""
        close = sys.get_asyncgen_hooks().finalizer
        # Our own hook is known by its name: another copy of this file may have set it.
        if close and getattr(close, "__name__", "") != "close_as_nobody":
            _close_as_nobody(close)
        before = _METADATA.get()
        if self._overridden and scope["type"] == "http":  # Starlette knows how to call dispatch
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
        """Serve one HTTP request: for subclasses that override it, and for code that calls it."""
        try:
            credentials = self.credentials(request.scope)
        except HTTPException as refusal:
            return self.refusal_handler(request, refusal)
        if not credentials:
            return await call_next(request)
        with remote.auth_metadata(*credentials.items()):
            return await call_next(request)

    def credentials(self, scope: Scope) -> dict[str, str]:
        """Return a request's credentials, if any, by header; raise HTTPException to refuse it."""
        if scope["type"] not in ("http", "websocket") or scope["path"] in self.excluded_paths:
            return {}
        headers, credentials = _by_name(scope["headers"]), {}
        for extractor in self.header_extractors:
            if type(extractor) is _Header:
                key, value = extractor.key, headers.get(extractor.raw_key, b"")
            else:
                key, value = _ask(extractor, _connection(scope))
            if key == "cookie" and self.cookie_names is not None:
                value = _choose_cookies(value, self.cookie_names)
            if value and not (text := _sendable(value)).isspace():
                credentials[key] = text
        if credentials:
            if scope.get("method") not in _SAFE_METHODS and self._is_foreign(headers):
                raise HTTPException(403, "Cross-site request refused")
        elif self.required:
            # Browsers send a preflight without credentials, for the application to answer.
            asked = headers.get(b"origin") and headers.get(b"access-control-request-method")
            if not asked or scope.get("method") != "OPTIONS":
                challenge = {"www-authenticate": "Bearer"}
                raise HTTPException(401, "Authentication credentials required", challenge)
        return credentials

    def _is_foreign(self, headers: Mapping[bytes, bytes]) -> bool:
        """Tell if a page of another origin sent it: the rule of Go's ``CrossOriginProtection``."""
        origin = headers.get(b"origin", b"").decode("latin-1")
        if origin in self.trusted_origins:
            return False
        # No browser adds a bearer token on its own, and a page needs a preflight to send one.
        if not self.assume_ambient and headers.get(b"authorization", b"")[:7].lower() == b"bearer ":
            return False
        # Browsers since 2023 send where a request comes from, and pages cannot change it.
        if site := headers.get(b"sec-fetch-site"):
            return site not in (b"same-origin", b"none")
        # An older browser; other clients send no Origin. A proxy may have changed the scheme.
        host = headers.get(b"host", b"").decode("latin-1").lower()
        return origin != "" and origin.lower() not in (f"http://{host}", f"https://{host}")

    def _refusing_app(self, scope: Scope, refusal: HTTPException) -> ASGIApp:
        if scope["type"] == "http" or "websocket.http.response" in (scope.get("extensions") or ()):
            return self.refusal_handler(_connection(scope), refusal)
        return WebSocketClose(1008, refusal.detail)

    @staticmethod
    def extract_custom_header(header_name: str) -> HeaderExtractor:
        """Return an extractor for the header with that name; its key is the name in lower case."""
        return _Header(header_name, f"extract_{header_name.replace('-', '_')}_header")


def _refuse_in_json(_: HTTPConnection, refusal: HTTPException) -> Response:
    body = b'{"detail":"%b"}' % refusal.detail.encode()  # no detail needs escaping
    return Response(body, refusal.status_code, refusal.headers, "application/json")


def _connection(scope: Scope) -> HTTPConnection:
    return Request(scope) if scope["type"] == "http" else HTTPConnection(scope)


def _by_name(headers: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Return the headers by name; the values of a repeated one are joined (RFC 9110 5.3)."""
    if len(found := dict(headers)) < len(headers):
        values: dict[bytes, list[bytes]] = {name: [] for name in found}
        for name, value in headers:
            values[name] += [value.strip()] if value.strip() else []
        if len(set(values.get(b"authorization", ()))) > 1:
            raise HTTPException(400, "Conflicting Authorization headers")
        found = {name: b", ".join(dict.fromkeys(several)) for name, several in values.items()}
        found[b"cookie"] = b"; ".join(values.get(b"cookie", ()))  # RFC 9113 8.2.3
    return found


def _ask(extractor: HeaderExtractor, request: HTTPConnection) -> tuple[str, bytes]:
    """Return an extractor's result: a lower-case key and bytes, both blank if it found nothing."""
    try:
        if (result := extractor(request)) is not None:
            key, value = result if isinstance(result, tuple | list) else ("", "")
            return _settable(key), _as_bytes(value)
    except Exception as error:  # noqa: BLE001 - any failure means that there is no credential
        # The text and the traceback may contain the credential.
        function = getattr(extractor, "func", extractor)
        name = getattr(function, "__name__", type(function).__name__)
        logger.warning("Header extractor %s failed: %s", name, type(error).__name__)
    return "", b""


def _as_bytes(value: str) -> bytes:
    """Encode a value as Latin-1, as Starlette has decoded it, or else as UTF-8."""
    return value.encode("latin-1" if value.isascii() or max(value) <= "\xff" else "utf-8")


def _choose_cookies(value: bytes, names: Collection[str]) -> bytes:
    """Return the cookies with those names; refuse two with one name and different values."""
    cookies = [cookie.strip(b" \t") for cookie in value.split(b";")]
    chosen = {c: name for c in cookies if (name := c.partition(b"=")[0].decode("latin-1")) in names}
    if len(chosen) > len(set(chosen.values())):
        raise HTTPException(400, "Conflicting cookies")
    return b"; ".join(chosen)


def _sendable(value: bytes) -> str:
    """Return the text that the SDK will encode (as UTF-8) to exactly these bytes, or refuse."""
    if len(value) > 65_536:  # more than servers, or proxies in front of Flyte, let through
        raise HTTPException(431, "Credentials too large")
    text = value.decode("utf-8", "replace")
    if "\ufffd" in text or value.translate(None, _FIELD_BYTES):
        raise HTTPException(400, "Malformed credentials")
    return text
