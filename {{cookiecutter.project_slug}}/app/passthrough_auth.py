# passthrough_auth 1.0.0: one file, to be used as it is or copied into any app.
#
# Origin:   the cookiecutter template for authenticated Flyte 2 apps. Its page
#           docs/copying-the-middleware.md says what to change in an app that gets a copy.
# Licence:  SPDX-License-Identifier: Apache-2.0
# Drift:    "python passthrough_auth.py" prints the version and the SHA-256 of this file; the page
#           lists the hash of every version.
"""ASGI middleware that serves every request with its caller's own Flyte credentials.

It takes the credentials from the request's headers and enters ``flyte.remote.auth_metadata`` around
the application, so that each Flyte call made while serving the request carries them. It keeps
nothing from one request to the next, and what it cannot judge it refuses. Use it in place of
``flyte.app.extras.FastAPIPassthroughAuthMiddleware``::

    app.add_middleware(FastAPIPassthroughAuthMiddleware, excluded_paths={"/health"})
"""

import contextvars
import inspect
import logging
import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import Any

from flyte import remote
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__version__ = "1.0.0"

logger = logging.getLogger(__name__)

Credential = tuple[str, str]
"""A header name and its value, as Flyte is to receive them."""
HeaderExtractor = Callable[[Any], Credential | Awaitable[Credential | None] | None]
"""Takes the ``Request``, or a WebSocket's ``HTTPConnection``; None means: no such credential."""

_MAX_VALUE = 65_536  # bytes; servers and proxies on the way to Flyte give up well below that
_FIELD_BYTES = bytes([0x09, *range(0x20, 0x7F), *range(0x80, 0x100)])  # RFC 9110 5.5
_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")  # RFC 9110 5.6.2, in lower case
# Never set on a call to Flyte: what steers the connection (RFC 9110 7.6.1), the framing or the RPC.
_RESERVED = re.compile(
    r"(content|connect|grpc)-.*|accept-encoding|connection|expect|host|http2-settings|keep-alive|te"
    r"|proxy-(authenticate|authorization|connection)|trailer|transfer-encoding|upgrade"
)
_DEFAULT_KEYS = ((b"authorization", "authorization"), (b"cookie", "cookie"))
_PREFLIGHT = frozenset((b"origin", b"access-control-request-method"))  # Fetch standard, 3.2.2
_READ = _PREFLIGHT | {b"authorization", b"cookie", b"host", b"sec-fetch-site"}
_SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))  # RFC 9110 9.2.1; browsers send no TRACE
_AMBIENT_SCHEMES = frozenset((b"basic", b"digest", b"negotiate", b"ntlm"))
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@*\sA-Z]+")  # RFC 6454 6.2, as browsers send it


def _find_metadata_var() -> contextvars.ContextVar[Any]:
    """Return the context variable in which ``auth_metadata`` keeps the credentials.

    Flyte has no public name for it. But in an empty context it is the one variable that entering
    ``auth_metadata`` sets; should that change, this file refuses to be imported.
    """
    probe = remote.auth_metadata(("authorization", "probe"))

    def variables() -> list[contextvars.ContextVar[Any]]:
        with probe:
            return list(contextvars.copy_context())

    found = contextvars.Context().run(variables)
    if len(found) != 1:
        raise ImportError(f"cannot isolate callers: auth_metadata sets {len(found)} variables")
    return found[0]


_METADATA = _find_metadata_var()


def _outside(receive: Receive, send: Send, vary: bool = False) -> tuple[Receive, Send]:
    """Wrap the server's callables so that they never run with the caller's credentials.

    From within them a server starts the connection's next request, or registers the callback that
    will, and either inherits the context of that moment (CPython issue 140947). Only Flyte's
    variable goes back to what it was before; all others stay visible to outer middleware.
    With ``vary``, the response's headers tell caches that it depends on the cookies.
    """
    ambient = _METADATA.get()

    async def outer_receive() -> Message:
        token = _METADATA.set(ambient)
        try:
            return await receive()
        finally:
            _METADATA.reset(token)

    async def outer_send(message: Message) -> None:
        if vary and message["type"] == "http.response.start":
            message = {**message, "headers": _vary_on_cookie(message.get("headers", ()))}
        token = _METADATA.set(ambient)
        try:
            await send(message)
        finally:
            _METADATA.reset(token)

    return outer_receive, outer_send


class _Refusal:
    """An answer ``{"detail": ...}`` given in the application's place."""

    def __init__(self, status: int, detail: str, *headers: tuple[bytes, bytes]) -> None:
        self.status, self.detail = status, detail
        self.body = b'{"detail":"%s"}' % detail.encode()
        length = b"%d" % len(self.body)
        self.headers = (
            *headers,
            (b"content-length", length),
            (b"content-type", b"application/json"),
        )

    def response(self) -> Response:
        response = Response(self.body, self.status)
        response.raw_headers = list(self.headers)
        return response

    async def __call__(self, scope: Scope, send: Send) -> None:
        prefix = "" if scope["type"] == "http" else "websocket."
        if prefix and "websocket.http.response" not in (scope.get("extensions") or ()):
            await send({"type": "websocket.close", "code": 1008, "reason": self.detail})
            return
        # The list is a new one each time: outer middleware adds to it.
        start = {"status": self.status, "headers": list(self.headers)}
        await send({"type": f"{prefix}http.response.start", **start})
        await send({"type": f"{prefix}http.response.body", "body": self.body})


_UNAUTHENTICATED = _Refusal(
    401, "Authentication credentials required", (b"www-authenticate", b"Bearer")
)
_CONFLICTING = _Refusal(400, "Conflicting Authorization headers")
_MALFORMED = _Refusal(400, "Malformed credentials")
_TOO_LARGE = _Refusal(431, "Credentials too large")
_CROSS_SITE = _Refusal(403, "Cross-site request refused")


class FastAPIPassthroughAuthMiddleware:
    """Serves HTTP requests and WebSockets with the Flyte credentials of whoever sent them.

    Refusals are JSON, ``{"detail": str}``: 401 if there are no credentials, 400 or 431 if they
    cannot be passed on as they came, 403 if only a browser on another site vouches for them. A
    WebSocket is refused before it is accepted. CORS preflights pass, without credentials.
    """

    def __init__(
        self,
        app: ASGIApp,
        header_extractors: Sequence[HeaderExtractor] | None = None,
        excluded_paths: Collection[str] | None = None,
        *,
        required: bool = True,
        cookie_names: Collection[str] | None = None,
        trusted_origins: Collection[str] = (),
    ) -> None:
        """Wrap an application.

        Args:
            app: the ASGI application.
            header_extractors: plain or async callables that take the request and return a
                credential or None. They replace the default: Authorization, then Cookie. One that
                raises, or returns anything but two non-blank strings, has found nothing.
            excluded_paths: paths served as if this class were not there, each equal to the whole
                of ``scope["path"]``. The collection itself is kept: later additions count.
            required: whether to refuse requests without credentials; else they are served without.
            cookie_names: the cookies that are passed on and count; None means the whole header.
            trusted_origins: other origins, such as ``https://example.com``, whose pages may send
                unsafe requests and open WebSockets on the strength of a cookie alone.

        Raises:
            ValueError: an entry of trusted_origins is not an origin.
        """
        self.app = app
        self.header_extractors: Sequence[HeaderExtractor] = (
            _default_extractors(self) if header_extractors is None else header_extractors
        )
        self.excluded_paths = set() if excluded_paths is None else _several(excluded_paths)
        self.required = required
        self.cookie_names = None if cookie_names is None else frozenset(_several(cookie_names))
        self.trusted_origins = frozenset(_several(trusted_origins))
        for origin in self.trusted_origins:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(f"not an origin such as 'https://example.com': {origin!r}")
        # A subclass's own dispatch wants a request and a response: Starlette's adapter has them.
        overridden = type(self).dispatch is not FastAPIPassthroughAuthMiddleware.dispatch
        self._adapter = BaseHTTPMiddleware(app, dispatch=self.dispatch) if overridden else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope: ``http`` and ``websocket`` are judged, any other passes."""
        kind = scope["type"]
        if kind not in ("http", "websocket"):
            await self.app(scope, receive, send)
        elif self._adapter is not None and kind == "http":
            await self._adapter(scope, *_outside(receive, send))
        elif (verdict := await self._judge(scope)) is None:
            await self.app(scope, receive, send)
        elif isinstance(verdict, _Refusal):
            await verdict(scope, send)
        else:
            receive, send = _outside(receive, send, vary="cookie" in verdict)
            with remote.auth_metadata(*verdict.items()):
                await self.app(scope, receive, send)

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        """Judge one HTTP request and, if it may pass, await ``call_next`` with its credentials.

        It may be overridden, or called with any ``call_next``. Keeping the credentials away from
        the server's callables is up to ``__call__``, also around an overriding method.
        """
        verdict = await self._judge(request.scope)
        if isinstance(verdict, _Refusal):
            return verdict.response()
        if verdict is None:
            return await call_next(request)
        with remote.auth_metadata(*verdict.items()):
            response = await call_next(request)
        if "cookie" in verdict and isinstance(response, Response):
            response.raw_headers[:] = _vary_on_cookie(response.raw_headers)
        return response

    async def _judge(self, scope: Scope) -> dict[str, str] | _Refusal | None:
        """Return the credentials, a refusal, or None: to be served without credentials."""
        if scope["path"] in self.excluded_paths:
            return None
        found = _read(scope["headers"])
        method = scope["method"] if scope["type"] == "http" else None
        if method == "OPTIONS" and found.keys() >= _PREFLIGHT:
            return None
        if b"" in found:
            return _CONFLICTING
        if self.header_extractors == _DEFAULT_EXTRACTORS:
            pairs = [(key, found[name]) for name, key in _DEFAULT_KEYS if name in found]
        else:
            pairs = await self._extract(scope)
        credentials = self._forwardable(pairs)
        if isinstance(credentials, _Refusal):
            return credentials
        if not credentials:
            return _UNAUTHENTICATED if self.required else None
        unsafe = method not in _SAFE_METHODS and not self._is_own_page(found)
        return _CROSS_SITE if unsafe and _is_ambient(credentials, scope) else credentials

    async def _extract(self, scope: Scope) -> list[tuple[str, bytes]]:
        """Run each extractor once and return what they found, as names and bytes to be sent."""
        request = Request(scope) if scope["type"] == "http" else HTTPConnection(scope)
        pairs = []
        for extractor in self.header_extractors:
            try:
                result = extractor(request)
                if inspect.isawaitable(result):
                    result = await result
                if result is not None:
                    pairs.append(_checked(result))
            except Exception as error:  # noqa: BLE001 - whatever it is, it is no credential
                # Neither the text nor the traceback is logged: both may hold the credential.
                function = getattr(extractor, "func", extractor)
                name = getattr(function, "__name__", type(function).__name__)
                logger.warning("Header extractor %s failed: %s", name, type(error).__name__)
        return pairs

    def _forwardable(self, pairs: list[tuple[str, bytes]]) -> dict[str, str] | _Refusal:
        """Return as text what Flyte will receive byte for byte (the SDK encodes it as UTF-8)."""
        credentials = {}
        for key, value in pairs:
            sent = value
            if key == "cookie" and self.cookie_names is not None:
                cookies = [cookie.strip(b" \t") for cookie in value.split(b";")]
                chosen = [c for c in cookies if _text(c.partition(b"=")[0]) in self.cookie_names]
                sent = b"; ".join(chosen)
            if len(sent) > _MAX_VALUE:
                return _TOO_LARGE
            if sent.translate(None, _FIELD_BYTES):
                return _MALFORMED
            try:
                text = sent.decode()
            except UnicodeDecodeError:
                return _MALFORMED
            if text.strip():
                credentials[key] = text
        return credentials

    def _is_own_page(self, found: dict[bytes, bytes]) -> bool:
        """Tell whether the app's own page, a trusted one, or no browser at all sent the request.

        Fetch Metadata says so where the browser sends it; else Origin must name the Host.
        """
        origin = _text(found.get(b"origin", b""))
        if origin in self.trusted_origins:
            return True
        if b"sec-fetch-site" in found:
            return found[b"sec-fetch-site"] in (b"same-origin", b"none")
        host = found.get(b"host")
        return not origin or (
            host is not None and origin.partition("://")[2].lower() == _text(host).lower()
        )

    @staticmethod
    def extract_authorization_header(request: HTTPConnection) -> Credential | None:
        """Return ``("authorization", value)`` with any scheme, or None; reads ``.headers`` only."""
        return _header(request, "authorization")

    @staticmethod
    def extract_cookie_header(request: HTTPConnection) -> Credential | None:
        """Return ``("cookie", value)``, several joined, or None; reads ``.headers`` only."""
        return _header(request, "cookie")

    @staticmethod
    def extract_custom_header(header_name: str) -> HeaderExtractor:
        """Return an extractor for the header of that name; its key is the name in lower case."""

        def extractor(request: HTTPConnection) -> Credential | None:
            return _header(request, header_name.lower())

        extractor.__name__ = f"extract_{header_name.replace('-', '_')}_header"
        return extractor


def _default_extractors(owner: Any) -> list[HeaderExtractor]:
    return [owner.extract_authorization_header, owner.extract_cookie_header]


_DEFAULT_EXTRACTORS = _default_extractors(FastAPIPassthroughAuthMiddleware)


def _several(values: Collection[str]) -> Collection[str]:
    """Return the values; a string is one value, not its characters or substrings."""
    return (values,) if isinstance(values, str) else values


def _text(value: bytes) -> str:
    """Decode header bytes so that equal strings mean equal bytes."""
    return value.decode("latin-1")


def _read(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Return the headers in ``_READ`` that are not blank; the key ``b""`` marks a conflict."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in _READ and value and not value.isspace():
            if name not in found:
                found[name] = value
            elif name == b"cookie":
                found[name] += b"; " + value  # RFC 9113 8.2.3
            elif found[name].strip() != value.strip():
                found[b"" if name == b"authorization" else name] = found[name] + b", " + value
    return found


def _header(request: HTTPConnection, name: str) -> Credential | None:
    """Read a header from anything that has ``.headers``; of these only Cookie may be repeated."""
    value = request.headers.get(name)
    if name == "cookie" and hasattr(request.headers, "getlist"):
        value = "; ".join(part for part in request.headers.getlist(name) if part.strip())
    return (name, value) if value and value.strip() else None


def _checked(result: Any) -> tuple[str, bytes]:
    """Return an extractor's result as a lower-case name and the bytes to be sent, or raise."""
    key, value = result if isinstance(result, tuple | list) else ()
    key = key.lower()
    if not _FIELD_NAME.fullmatch(key) or _RESERVED.fullmatch(key) or not value.strip():
        raise ValueError
    try:
        # Starlette reads header bytes as Latin-1, so this gives back the bytes that came in.
        return key, value.encode("latin-1")
    except UnicodeEncodeError:
        return key, value.encode()


def _is_ambient(credentials: dict[str, str], scope: Scope) -> bool:
    """Tell whether a browser could have attached all credentials on its own.

    It could if each is a cookie, an Authorization of the kind that browsers remember, or made by
    an extractor out of these or of nothing. A value that came in another header, whatever the
    scheme in front of it, was put there by someone who knew it.
    """
    known = {
        value.strip().rpartition(b" ")[2]
        for name, value in scope["headers"]
        if name != b"cookie"
        and (name != b"authorization" or value.split(b" ")[0].lower() not in _AMBIENT_SCHEMES)
    }
    return all(
        key == "cookie" or value.strip().encode().rpartition(b" ")[2] not in known
        for key, value in credentials.items()
    )


def _vary_on_cookie(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return response headers in which a single Vary names Cookie besides what it named before."""
    others, vary = [], b""
    for name, value in headers:
        if name.lower() == b"vary":
            vary += value + b", "
        else:
            others.append((name, value))
    named = [item.strip().lower() for item in vary.split(b",")]
    vary = vary[:-2] if b"cookie" in named or b"*" in named else vary + b"Cookie"
    return [*others, (b"vary", vary)]


if __name__ == "__main__":
    import hashlib
    from pathlib import Path

    digest = hashlib.sha256(Path(__file__).read_text("utf-8").encode()).hexdigest()
    print(f"passthrough_auth {__version__} sha256:{digest}")
