"""The entry for calls and uploads: identifies the caller, and passes the call to its service."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from connectrpc.errors import ConnectError
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from .access import set_caller, unimplemented
from .data import Storage
from .open_calls import OpenCalls
from .people import Person

FORWARDED_PROTO = b"x-forwarded-proto"


@dataclass(frozen=True)
class ReceivedCall:
    """A call that was received, admitted or not."""

    service: str
    """Full name, such as ``flyteidl2.auth.IdentityService``."""
    method: str
    headers: Mapping[str, str] = field(repr=False)
    """By lower-case name; not in ``repr``, since they include credentials."""
    person: Person | None
    """The owner of the credentials; None if it is unknown."""


class Door:
    """An ASGI application with every service of the local Flyte, by path."""

    def __init__(
        self,
        find: Callable[[Mapping[str, str]], Person | None] | None,
        services: Mapping[str, ASGIApp],
        *,
        forwarded_proto: bytes | None = None,
    ) -> None:
        """Create the application.

        Args:
            find: Returns the person who makes a call with these headers; None if there are none.
            services: The services by path.
            forwarded_proto: The X-Forwarded-Proto that a proxy in front sets, in place of the
                client's; None if there is no such proxy.
        """
        self.received: list[ReceivedCall] = []
        self.open_calls = OpenCalls()
        self._find = find
        self._forwarded_proto = forwarded_proto
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Record a call, and pass it to its service."""
        if self._forwarded_proto is not None:
            others = [each for each in scope["headers"] if each[0] != FORWARDED_PROTO]
            scope["headers"] = [*others, (FORWARDED_PROTO, self._forwarded_proto)]
        # The stubs keep the headers' order; here each name has one value (RFC 9110, 5.3).
        headers: dict[str, str] = {}
        for name, value in Headers(scope=scope).items():
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        someone = self._find(headers) if self._find else None
        service, _, method = scope["path"].lstrip("/").rpartition("/")
        self.received.append(ReceivedCall(service, method, headers, someone))
        set_caller(someone)
        if (application := self._services.get(f"/{service}")) is not None:
            await self.open_calls.answer(method, application, scope, receive, send)
        else:
            await _refuse(unimplemented(service, method), headers)(scope, receive, send)


class Uploads:
    """An ASGI application that stores uploads to signed URLs."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a PUT to a signed URL."""
        request = Request(scope, receive)
        content_md5 = request.headers.get("content-md5", "")
        status = self._storage.put(request.url.path, content_md5, await request.body())
        await Response(status_code=status)(scope, receive, send)


def _refuse(error: ConnectError, headers: Mapping[str, str]) -> Response:
    """Return an error in the Connect protocol's form for this kind of call."""
    body = {"code": error.code.value, "message": error.message}
    if not headers.get("content-type", "").startswith("application/connect+"):
        return Response(json.dumps(body), 501, media_type="application/json")
    end = json.dumps({"error": body}).encode()
    envelope = b"\x02" + len(end).to_bytes(4, "big") + end  # flag 2: end of the stream
    return Response(envelope, media_type=headers["content-type"])
