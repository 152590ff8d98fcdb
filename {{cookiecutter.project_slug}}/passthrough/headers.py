"""The headers of requests and responses: which requests are refused, what browsers are told."""

from collections.abc import Collection, Mapping
from contextlib import suppress
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette._utils import get_route_path  # what Starlette itself routes by
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .problems import problem_response
from .settings import Settings

LARGEST_HEADERS = 64 * 1024  # bytes; h11 has its own limit of 16 KiB, httptools none
AROUND_HEADER = len(": \r\n")

HEADERS = {
    # Answers are their caller's alone, so no cache keeps them (RFC 9111 5.2.2.5).
    "cache-control": "no-store",
    # Pages load only the app's files and cannot be framed.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
        " font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'"
    ),
    # No page of another site shows an answer as its image or script, or holds on to a window that
    # it has opened. What CORS lets a trusted origin read is not affected.
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    # URLs name runs and tasks, which linked sites must not see.
    "referrer-policy": "no-referrer",
    # Task output is never interpreted as script or page.
    "x-content-type-options": "nosniff",
}
"""Sent with every response that does not say otherwise."""


class HeadersMiddleware:
    """Adds `HEADERS` to each response."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.headers = [(name.encode(), value.encode()) for name, value in HEADERS.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"].endswith("http.response.start"):  # a WebSocket's refusal as well
                # "no-cache" is what FastAPI says of events, and lets caches keep them.
                headers = [
                    h for h in message.get("headers", ()) if h != (b"cache-control", b"no-cache")
                ]
                given = {name for name, value in headers}
                headers += [header for header in self.headers if header[0] not in given]
                message = {**message, "headers": headers}
            await send(message)

        await self.app(scope, receive, send_with_headers)


class RoutePathMiddleware:
    """Has what is between two of it see the path that is routed, as paths without credentials are.

    A server that is told of a prefix (``uvicorn --root-path /pre``) puts it before each path, and
    it is left out when the path is routed. The inner of the two puts it back.
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
    """Refuses requests that are too large, that another site's page makes, or under a foreign name.

    A body that turns out to be larger than it says is refused while it is read, by Starlette's
    ``RequestBodyLimitMiddleware``, which answers in plain text where the length gives it away.
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
            return HTTPException(413, f"the body of a request may have {most} bytes")
        if scope["path"] in self.public:
            return None
        if self.settings.flyte_plaintext and not self._is_ours(sent.get(b"host", b"")):
            return HTTPException(
                421, "the app does not answer under this name: see ALLOWED_HOSTS in its settings"
            )
        if self._is_foreign(sent):
            return HTTPException(403, "Cross-site request refused")
        return None

    def _is_ours(self, host: bytes) -> bool:
        """Tell whether a Host header can't be that of a page which DNS has led here."""
        with suppress(ValueError):
            name = urlsplit(f"//{host.decode('latin-1')}").hostname or ""
            ours = ("localhost", *self.settings.allowed_hosts)
            return name in ours or name.endswith(".localhost") or bool(ip_address(name))
        return False

    def _is_foreign(self, sent: Mapping[bytes, bytes]) -> bool:
        """Tell whether a page of another origin makes the request, and is not merely left for it.

        The middleware refuses that where something is changed; but also how long an answer takes
        can tell another site about its visitor.
        """
        if sent.get(b"sec-fetch-site", b"none") in (b"none", b"same-origin"):
            return False
        if (
            sent.get(b"sec-fetch-mode") == b"navigate"
            and sent.get(b"sec-fetch-dest") == b"document"
        ):
            return False
        return sent.get(b"origin", b"").decode("latin-1") not in self.settings.trusted_origins
