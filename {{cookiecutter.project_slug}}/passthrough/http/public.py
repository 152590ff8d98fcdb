"""What is public: which requests need no credentials."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from starlette._utils import get_route_path  # Starlette's own routing uses it
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

IS_PUBLIC = "passthrough.is_public"
"""The key of ASGI's scope for what the door has found out with `is_public`."""


def is_public(scope: Mapping[str, Any], public: Collection[str]) -> bool:
    """Tell whether a request needs no credentials: `App` has the paths of those.

    Paths are compared as they are routed, without the server's prefix (``uvicorn --root-path``).
    ``/page/*`` stands for each path directly below ``/page/``.
    """
    path = get_route_path(scope)  # type: ignore[arg-type]
    return path in public or f"{path.rpartition('/')[0]}/*" in public


class ExceptPublic:
    """Middleware that public requests go around."""

    def __init__(self, app: ASGIApp, middleware: Sequence[Middleware]) -> None:
        """Wrap an application; the outermost of ``middleware`` is the first."""
        self._app = self._wrapped = app
        for kind, args, options in reversed(middleware):
            self._wrapped = kind(self._wrapped, *args, **options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        await (self._app if scope.get(IS_PUBLIC) else self._wrapped)(scope, receive, send)
