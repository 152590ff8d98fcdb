# passthrough_auth 2.0.0: one file, to be used as it is or copied into any app.
# Origin:   the cookiecutter template for Flyte 2 apps; see its docs/copying-the-middleware.md.
# Licence:  SPDX-License-Identifier: Apache-2.0
# Drift:    that page lists the SHA-256 of every version; "sha256sum" prints that of a copy.
"""ASGI middleware that serves every request with its caller's own Flyte credentials.

It takes the credentials from the request's headers and enters ``flyte.remote.auth_metadata`` around
the application, so that each Flyte call made while serving the request carries them. It keeps
nothing between requests, and refuses requests whose credentials are ambiguous. Use it in place of
``flyte.app.extras.FastAPIPassthroughAuthMiddleware``::

    app.add_middleware(FastAPIPassthroughAuthMiddleware, excluded_paths={"/health"})

Importing this file also makes the garbage collector finalise objects in an empty context: clean-up
after an abandoned stream (``finally``, ``__del__``) runs without credentials.
"""

from __future__ import annotations  # inner functions' annotations would cost time in each request

import contextvars
import ctypes
import gc
import logging
import re
import sys
import threading
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import Any

from flyte import remote
from starlette.exceptions import HTTPException
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

logger = logging.getLogger(__name__)

Credential = tuple[str, str]  # a header name and value to send to Flyte
HeaderExtractor = Callable[[Any], Credential | Awaitable[Credential | None] | None]
"""Takes the ``Request``, or a WebSocket's ``HTTPConnection``; returns None if it finds nothing."""

_FIELD_BYTES = bytes([0x09, *range(0x20, 0x7F), *range(0x80, 0x100)])  # RFC 9110 5.5
# Lower-case names (RFC 9110 5.6.2), but not those of the connection (7.6.1), framing or RPC.
_SETTABLE = re.compile(
    r"(?!(content|connect|grpc|proxy)-|(accept-encoding|connection|expect|host|http2-settings"
    r"|keep-alive|te|trailer|transfer-encoding|upgrade)$)[!#$%&'*+.^_`|~0-9a-z-]+"
)
# Headers that don't show what the caller knows or intends: any site's page can set them without a
# preflight, the browser sends them on its own, or a proxy adds them.
_UNINTENDED = re.compile(
    rb"(accept|cf|content|if|ping|sec|upgrade|x-(amzn|auth-request|forwarded|goog|ms|real))(-.*)?"
    rb"|cache-control|connection|cookie|date|dnt|forwarded|host|last-event-id|origin|pragma|priority"
    rb"|range|referer|save-data|te|user-agent|via"
)
# Schemes whose credentials browsers remember and attach on their own.
_AMBIENT_SCHEME = re.compile(rb"\s*(basic|digest|negotiate|ntlm)\b", re.IGNORECASE)
_SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))  # RFC 9110 9.2.1; browsers send no TRACE
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@*\sA-Z]+")  # RFC 6454 6.2, as browsers send it
_collecting = threading.local()  # on Python 3.12, collections of several threads may overlap


def _finalise_as_nobody(phase: str, _: dict[str, int]) -> None:
    """Make the collector finalise objects in an empty context, not in the current request's.

    An object, or a generator stopped at its ``yield``, may belong to another caller. This needs the
    C API: Python 3.11 may collect in the middle of setting a context variable, and setting another
    one here, as in any finaliser, can undo that or crash the process.
    """
    contexts = vars(_collecting).setdefault("contexts", [])
    if phase == "start":
        contexts.append(contextvars.Context())
        ctypes.pythonapi.PyContext_Enter(ctypes.py_object(contexts[-1]))
    else:
        ctypes.pythonapi.PyContext_Exit(ctypes.py_object(contexts.pop()))


# Once per process, even with several copies of this file: two hooks would mix up their contexts.
if _finalise_as_nobody.__name__ not in [getattr(hook, "__name__", "") for hook in gc.callbacks]:
    gc.callbacks.append(_finalise_as_nobody)


def _find_metadata_var() -> contextvars.ContextVar[Any]:
    """Return the context variable in which ``auth_metadata`` keeps the credentials.

    Flyte has no public name for it: it is the only variable that is set. Importing this file fails
    if that changes, or if code outside the request would find the credentials. That is true of
    finalisers, and of threads: those in a pool outlive the request that started them. Python 3.14
    can start threads in a copy of the current context (``sys.flags.thread_inherit_context``).
    """
    contexts: dict[str, contextvars.Context] = {}

    class Probe:
        def __del__(self) -> None:
            contexts["what the garbage collector finalises"] = contextvars.copy_context()

    probe: Any = Probe()
    probe.itself = probe
    with remote.auth_metadata(("authorization", "probe")), ThreadPoolExecutor() as pool:
        del probe
        gc.collect(1)  # only the young generations; a full collection takes 50 ms
        contexts["a new thread"] = pool.submit(contextvars.copy_context).result()
        variables = list(contextvars.copy_context())
    refusal = f"cannot isolate callers (Python {sys.version.split()[0]}, flyte {version('flyte')})"
    if len(variables) != 1:
        raise ImportError(f"{refusal}: auth_metadata sets {len(variables)} variables")
    if wrong := [what for what, context in contexts.items() if variables[0] in context]:
        raise ImportError(f"{refusal}: {' and '.join(wrong)} would have a caller's credentials")
    return variables[0]


_METADATA = contextvars.Context().run(_find_metadata_var)


def _outside(call: Callable[..., Any], before: Any, vary: bool = False) -> Callable[..., Any]:
    """Wrap the server's ``receive`` or ``send`` to run without the caller's credentials.

    Inside them a server starts the connection's next request, or registers a callback that will;
    either way that request inherits the current context (CPython issue 140947). Only Flyte's
    variable is reset; all others stay visible outside. ``vary`` tells caches to regard cookies.
    """

    async def outside(message: Message | None = None) -> Any:
        if vary and message and message["type"] == "http.response.start":
            message = {**message, "headers": _vary_on_cookie([*message.get("headers", ())])}
        token = _METADATA.set(before)
        try:
            return await (call(message) if message else call())
        finally:
            _METADATA.reset(token)

    return outside


def _settable(name: str) -> str:
    """Return a header's name in lower case; it must be one that may be set on a call to Flyte."""
    if not _SETTABLE.fullmatch(name.lower()):
        raise ValueError(f"not a header that may be set on a call to Flyte: {name!r}")
    return name.lower()


class _Header:
    """An extractor for one header, which can be used as a function with a name."""

    def __init__(self, header: str, name: str) -> None:
        self.key, self.__name__ = _settable(header), name
        self.raw_key = self.key.encode()

    def __call__(self, request: HTTPConnection) -> Credential | None:
        getlist = getattr(request.headers, "getlist", None)
        values = getlist(self.key) if getlist else [request.headers.get(self.key) or ""]
        value = _join(self.raw_key, [_as_bytes(value) for value in values])
        return (self.key, value.decode("latin-1")) if value else None


class FastAPIPassthroughAuthMiddleware(BaseHTTPMiddleware):
    """Serves HTTP requests and WebSockets with the Flyte credentials of their senders.

    A request is refused with 401 if it has no credentials, with 400 or 431 if they are ambiguous or
    cannot be forwarded unchanged, and with 403 if a page of another origin may be using them
    without knowing them. A WebSocket is refused before it is accepted. CORS preflights pass.
    """

    extract_authorization_header = _Header("authorization", "extract_authorization_header")
    """Returns ``("authorization", value)`` with any scheme, or None."""
    extract_cookie_header = _Header("cookie", "extract_cookie_header")
    """Returns ``("cookie", value)``, several headers joined, or None."""

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
            header_extractors: plain or async callables that take the request and return a
                credential or None. They replace the default: Authorization, then Cookie. If one
                raises, or returns anything but two non-blank strings, it has found nothing.
            excluded_paths: paths served as if this class were not there, each compared with the
                whole of ``scope["path"]``. The collection is not copied: later additions count.
            required: whether to refuse requests without credentials instead of serving them.
            cookie_names: the cookies to forward as credentials; None means the whole header.
            trusted_origins: other origins whose pages may send unsafe requests and open WebSockets
                with ambient credentials; anything but an origin is a ValueError.
            assume_ambient: whether every credential may be ambient, that is, attached although the
                page that sends the request does not know it, as cookies and Basic are. Set it
                behind a proxy that turns a session cookie into another header.
            refusal_handler: makes the response to a refused request; default: ``{"detail": ...}``.
        """
        super().__init__(app)
        if header_extractors is None:
            header_extractors = [self.extract_authorization_header, self.extract_cookie_header]
        self.header_extractors = header_extractors
        self.excluded_paths = set() if excluded_paths is None else _several(excluded_paths)
        self.required, self.assume_ambient = required, assume_ambient
        self.cookie_names = None if cookie_names is None else frozenset(_several(cookie_names))
        self.trusted_origins = frozenset(_several(trusted_origins))
        if wrong := [o for o in self.trusted_origins if not _ORIGIN.fullmatch(o)]:
            raise ValueError(f"not an origin such as 'https://example.com': {wrong[0]!r}")
        self.refusal_handler = refusal_handler or _refuse_in_json
        self._overridden = type(self).dispatch is not FastAPIPassthroughAuthMiddleware.dispatch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope: check ``http`` and ``websocket``; pass on any other."""
        before = _METADATA.get()
        if self._overridden and scope["type"] == "http":  # Starlette knows how to call dispatch
            await super().__call__(scope, _outside(receive, before), _outside(send, before))
            return
        app = self.app
        try:
            credentials = await self._judge(scope)
        except HTTPException as refusal:
            app, credentials = self._refuse(scope, refusal), {}
        if not credentials:
            await app(scope, receive, send)
            return
        send = _outside(send, before, vary="cookie" in credentials)
        with remote.auth_metadata(*credentials.items()):
            await app(scope, _outside(receive, before), send)

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        """Check one HTTP request; if it may pass, await ``call_next`` with its credentials.

        Subclasses may override it: ``__call__`` still keeps the credentials from the server.
        """
        try:
            credentials = await self._judge(request.scope)
        except HTTPException as refusal:
            return self.refusal_handler(request, refusal)
        if not credentials:
            return await call_next(request)
        with remote.auth_metadata(*credentials.items()):
            response = await call_next(request)
        if "cookie" in credentials:
            response.raw_headers[:] = _vary_on_cookie(response.raw_headers)
        return response

    def _refuse(self, scope: Scope, refusal: HTTPException) -> ASGIApp:
        """Return an application that answers with the refusal."""
        if scope["type"] == "http" or "websocket.http.response" in (scope.get("extensions") or ()):
            return self.refusal_handler(_connection(scope), refusal)
        return WebSocketClose(1008, refusal.detail)

    async def _judge(self, scope: Scope) -> dict[str, str]:
        """Return the request's credentials, which may be none, or raise to refuse the request."""
        if scope["type"] not in ("http", "websocket") or scope["path"] in self.excluded_paths:
            return {}
        headers = _by_name(scope["headers"])
        credentials = {}
        for extractor in self.header_extractors:
            if isinstance(extractor, _Header):
                key, value = extractor.key, headers.get(extractor.raw_key, b"")
            else:
                key, value = await _ask(extractor, scope)
            if key == "cookie" and self.cookie_names is not None:
                value = _choose_cookies(value, self.cookie_names)
            if value and (text := _sendable(value)).strip():
                credentials[key] = text
        if credentials:
            unsafe = scope.get("method") not in _SAFE_METHODS  # a WebSocket has none
            if unsafe and self._is_foreign(headers) and self._are_ambient(credentials, headers):
                raise HTTPException(403, "Cross-site request refused")
        elif self.required:
            # Browsers send a preflight without credentials, for the application to answer.
            asked = _text(headers, b"origin") and _text(headers, b"access-control-request-method")
            if not asked or scope.get("method") != "OPTIONS":
                challenge = {"www-authenticate": "Bearer"}
                raise HTTPException(401, "Authentication credentials required", challenge)
        return credentials

    def _is_foreign(self, headers: Mapping[bytes, bytes]) -> bool:
        """Tell if a page of another origin sent it: the rule of Go's ``CrossOriginProtection``."""
        origin = _text(headers, b"origin")
        if origin in self.trusted_origins:
            return False
        # Browsers since 2023 send where a request comes from, and pages cannot change it.
        if site := _text(headers, b"sec-fetch-site"):
            return site not in ("same-origin", "none")
        # This is an older browser or, without Origin, no browser: then no page can misuse a user's
        # credentials. The scheme is not compared: behind a proxy, the app does not know its own.
        own = f"//{_text(headers, b'host')}"
        return origin != "" and origin.partition(":")[2].lower() != own.lower()

    def _are_ambient(self, credentials: Mapping[str, str], headers: Mapping[bytes, bytes]) -> bool:
        """Tell whether a browser or a proxy could have attached all credentials on its own.

        It could not if one of them also came, with any scheme before it, in a header that is sent
        only by a client that knows the credential and intends to use it.
        """
        intended = {
            value.strip().split(b" ")[-1]
            for name, value in headers.items()
            if not _UNINTENDED.fullmatch(name)
            and (name != b"authorization" or not _AMBIENT_SCHEME.match(value))
        }
        own = {v.encode().strip().split(b" ")[-1] for k, v in credentials.items() if k != "cookie"}
        return self.assume_ambient or own.isdisjoint(intended)

    @staticmethod
    def extract_custom_header(header_name: str) -> HeaderExtractor:
        """Return an extractor for the header with that name; its key is the name in lower case."""
        return _Header(header_name, f"extract_{header_name.replace('-', '_')}_header")


def _refuse_in_json(_: HTTPConnection, refusal: HTTPException) -> Response:
    body = b'{"detail":"%b"}' % refusal.detail.encode()  # no detail needs escaping
    return Response(body, refusal.status_code, refusal.headers, "application/json")


def _several(values: Collection[str]) -> Collection[str]:
    return (values,) if isinstance(values, str) else values  # not its characters or substrings


def _connection(scope: Scope) -> HTTPConnection:
    return Request(scope) if scope["type"] == "http" else HTTPConnection(scope)


def _by_name(headers: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Return the headers' values by name; values of a repeated header are joined."""
    if len(found := dict(headers)) < len(headers):
        repeated: dict[bytes, list[bytes]] = {name: [] for name in found}
        for name, value in headers:
            repeated[name].append(value)
        found = {name: _join(name, values) for name, values in repeated.items()}
    return found


def _join(name: bytes, values: Sequence[bytes]) -> bytes:
    """Join the values that are not blank (RFC 9110 5.3, RFC 9113 8.2.3)."""
    values = [value for value in values if value.strip()]
    if name != b"cookie" and len({value.strip() for value in values}) < 2:
        return b"".join(values[:1])
    if name == b"authorization":
        raise HTTPException(400, "Conflicting Authorization headers")
    return (b"; " if name == b"cookie" else b", ").join(values)


def _text(headers: Mapping[bytes, bytes], name: bytes) -> str:
    return headers.get(name, b"").strip().decode("latin-1")


async def _ask(extractor: HeaderExtractor, scope: Scope) -> tuple[str, bytes]:
    """Return an extractor's result: a lower-case key and bytes, both blank if it found nothing."""
    try:
        result: Any = extractor(_connection(scope))
        if hasattr(result, "__await__"):
            result = await result
        if result is not None:
            key, value = result if isinstance(result, tuple | list) else ("", "")
            return _settable(key), _as_bytes(value)
    except Exception as error:  # noqa: BLE001 - any failure means that there is no credential
        # Neither the text nor the traceback is logged: both may contain the credential.
        function = getattr(extractor, "func", extractor)
        name = getattr(function, "__name__", type(function).__name__)
        logger.warning("Header extractor %s failed: %s", name, type(error).__name__)
    return "", b""


def _as_bytes(value: str) -> bytes:
    """Encode a value: as Latin-1, which Starlette decodes headers as, or as UTF-8 if it must be."""
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
    if len(value) > 65_536:  # servers and proxies before Flyte have lower limits
        raise HTTPException(431, "Credentials too large")
    text = value.decode("utf-8", "replace")
    if "\ufffd" in text or value.translate(None, _FIELD_BYTES):
        raise HTTPException(400, "Malformed credentials")
    return text


def _vary_on_cookie(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return the response headers with Cookie added to a single Vary header."""
    vary = [value for name, value in headers if name.lower() == b"vary"]
    others = [pair for pair in headers if pair[0].lower() != b"vary"] if vary else headers
    return [*others, (b"vary", b", ".join([*vary, b"Cookie"]))]
