"""A content security policy for pages that are not the app's own."""

from starlette._utils import get_route_path  # Starlette's own routing uses it
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class ContentPolicy:
    """Middleware that gives what is mounted at a path another policy than the app's.

    The app's policy (`outgoing.HEADERS`) allows scripts and styles in files only, which is too
    strict for most pages of a framework::

        app.add_middleware(ContentPolicy, path="/ui", policy="default-src 'self'; ...")
    """

    def __init__(self, app: ASGIApp, path: str, policy: str) -> None:
        """Wrap an application.

        Args:
            app: The ASGI application.
            path: Where the pages are, with all paths below it.
            policy: The value of Content-Security-Policy.
        """
        self._app, self._path, self._policy = app, path.rstrip("/") + "/", policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""

        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).setdefault("content-security-policy", self._policy)
            await send(message)

        is_there = scope["type"] == "http" and f"{get_route_path(scope)}/".startswith(self._path)
        await self._app(scope, receive, send_with_policy if is_there else send)
