"""The headers of every response."""

from collections.abc import Awaitable

from starlette.exceptions import HTTPException
from starlette.types import Message, Send

from ..calls.request_state import RequestState

HEADERS = {
    # A response is for its caller only, so no cache may store it (RFC 9111 5.2.2.5).
    "cache-control": "no-store",
    # Pages load only the app's files and cannot be framed.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
        " font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'"
    ),
    # Other sites cannot embed a response, or keep a reference to a window that they open.
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    # URLs contain names of runs and tasks, which linked sites must not see.
    "referrer-policy": "no-referrer",
    # Browsers must never run task output as a script or show it as a page.
    "x-content-type-options": "nosniff",
}
"""Added to every response that does not set them itself."""


def with_headers(send: Send, calls: RequestState, headers: list[tuple[bytes, bytes]]) -> Send:
    """Return a ``send`` that adds these headers, and those about the request, to a response."""

    def sending(message: Message) -> Awaitable[None]:
        if message["type"] != "http.response.start":
            return send(message)
        own = dict(message.get("headers", ()))
        content = own.get(b"content-type", b"")
        if message["status"] == 413 and content.startswith(b"text/plain"):
            raise HTTPException(413, "Content Too Large")  # Starlette's, to be sent as a problem
        if content.startswith(b"text/event-stream"):
            own.pop(b"cache-control", None)  # FastAPI's "no-cache" lets caches store it
        kept = [pair for pair in message.get("headers", ()) if pair[0] in own]
        more = [*headers, (b"x-request-id", calls.request_id.encode())]
        if calls.left_out:
            more.append((b"x-left-out", b"%d" % calls.left_out))
        kept += [pair for pair in more if pair[0] not in own]
        return send({**message, "headers": kept})

    return sending
