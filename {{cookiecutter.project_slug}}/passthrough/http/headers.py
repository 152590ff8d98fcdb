"""Adds headers to responses."""

from collections.abc import Mapping

from starlette.types import Message

from ..calls.request_state import RequestState

EVENT_STREAM = b"text/event-stream"  # the content type of an event stream
HEADERS = {
    # A response is only for one caller, so no cache may store it (RFC 9111 5.2.2.5).
    "cache-control": "no-store",
    # Pages of the app load only files of the app. Other sites cannot show a page in a frame.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
        " font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'"
    ),
    # Other sites can neither embed a response nor access a window of the app that they opened.
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    # URLs contain names of runs and tasks, which linked sites must not see.
    "referrer-policy": "no-referrer",
    # Browsers must never run task output as a script or show it as a page.
    "x-content-type-options": "nosniff",
}
"""The default headers of all responses. Headers that an endpoint sets take precedence, except
Cache-Control of an event stream."""


class ResponseHeaders:
    """Adds default headers, the request identifier and the number of omitted entries."""

    def __init__(self, changed: Mapping[str, str]) -> None:
        """Add the developer's headers to the defaults, and replace defaults with the same names."""
        headers = HEADERS | {name.lower(): value for name, value in changed.items()}
        self._defaults = [(name.encode(), value.encode()) for name, value in headers.items()]

    def add(self, start: Message, state: RequestState) -> Message:
        """Add the headers that the endpoint has not set to the start of a response."""
        own = start.get("headers", ())
        names = dict(own)
        if names.get(b"content-type", b"").startswith(EVENT_STREAM):
            # FastAPI sets "no-cache" for streams, but "no-cache" allows a cache to store a stream.
            own = [pair for pair in own if pair[0] != b"cache-control"]
            names = dict(own)
        more = [*self._defaults, (b"x-request-id", state.request_id.encode())]
        if state.omitted_count:
            more.append((b"x-omitted-count", b"%d" % state.omitted_count))
        return {**start, "headers": [*own, *[pair for pair in more if pair[0] not in names]]}
