"""Checks on request headers, and the headers of responses."""

from collections.abc import Collection, Mapping
from contextlib import suppress
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette._utils import get_route_path  # Starlette's own routing uses it
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..settings import Settings
from .problems import problem_response

LARGEST_HEADERS = 64 * 1024  # bytes; h11 has its own limit of 16 KiB, httptools none
AROUND_HEADER = len(": \r\n")

HEADERS = {
    # A response is for its caller only, so no cache may store it (RFC 9111 5.2.2.5).
    "cache-control": "no-store",
    # Pages load only the app's files and cannot be framed.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
        " font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'"
    ),
    # Pages of other sites cannot embed a response as an image or script, or keep a reference to a
    # window that they open. CORS for trusted origins still works.
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    # URLs contain names of runs and tasks, which linked sites must not see.
    "referrer-policy": "no-referrer",
    # Browsers must never run task output as a script or show it as a page.
    "x-content-type-options": "nosniff",
}
"""Added to every response that does not set them itself."""
RAW_HEADERS = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
NO_CACHE = (b"cache-control", b"no-cache")
"""Set by FastAPI on event streams; replaced, because it lets caches store them."""


class HeadersMiddleware:
    """Adds `HEADERS` to each response."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"].endswith("http.response.start"):  # also when a WebSocket is refused
                sent = message.get("headers", ())
                headers = [(name, value) for name, value in sent if (name, value) != NO_CACHE]
                present = {name for name, _ in headers}
                headers += [each for each in RAW_HEADERS if each[0] not in present]
                message = {**message, "headers": headers}
            await send(message)

        await self.app(scope, receive, send_with_headers)


class RoutePathMiddleware:
    """Used twice: the outer one removes the server's path prefix, the inner one restores it.

    With ``uvicorn --root-path /pre`` each path starts with the prefix, which routing ignores.
    Middleware in between sees the routed path, and can compare it with the public paths.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if served := scope.pop("passthrough.served", None):
            scope["path"], scope["root_path"] = served
        elif scope.get("root_path") and "path" in scope:
            scope["passthrough.served"] = scope["path"], scope["root_path"]
            scope["path"], scope["root_path"] = get_route_path(scope), ""
        await self.app(scope, receive, send)


class GuardMiddleware:
    """Refuses requests that are too large, come from another site's page, or use a foreign host.

    Starlette's ``RequestBodyLimitMiddleware`` refuses a body without a length while it is read. A
    Content-Length that is too large is refused here, since Starlette would answer in plain text.
    """

    def __init__(self, app: ASGIApp, settings: Settings, public: Collection[str]) -> None:
        self.app, self.settings, self.public = app, settings, public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] in ("http", "websocket") and (error := self._refusal(scope)):
            await problem_response(HTTPConnection(scope), error)(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _refusal(self, scope: Scope) -> HTTPException | None:
        headers = scope["headers"]
        if sum(len(name) + len(value) + AROUND_HEADER for name, value in headers) > LARGEST_HEADERS:
            return HTTPException(431, "the headers of the request are too large")
        sent = dict(headers)
        length = sent.get(b"content-length", b"")[:20]
        if length.isdigit() and int(length) > (most := self.settings.largest_body):
            return HTTPException(413, f"the body of a request may have up to {most} bytes")
        if scope["path"] in self.public:
            return None
        if self.settings.flyte_plaintext and not self._is_ours(sent.get(b"host", b"")):
            return HTTPException(
                421, "the app is not served under this host name: see ALLOWED_HOSTS in its settings"
            )
        if self._is_foreign(sent):
            return HTTPException(403, "Cross-site request refused")
        return None

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
