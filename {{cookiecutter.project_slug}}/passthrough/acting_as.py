"""Calls Flyte as the sender of a request outside of it: in a queue, or in a thread."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from flyte import remote
from starlette.datastructures import Headers
from starlette.responses import Response

from .calls.request_calls import Deadline, RequestCalls, current_calls
from .http.credentials import passthrough_middleware
from .limits import current_limits
from .passthrough_auth import FastAPIPassthroughAuthMiddleware
from .settings import Settings


class HasHeaders(Protocol):
    """A request of any framework, or a job that remembers the headers of one."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The request's headers; names may be in upper case."""


@contextmanager
def acting_as(request: HasHeaders, settings: Settings) -> Iterator[None]:
    """Call Flyte in the block as the sender of a request.

    Frameworks such as Gradio run handlers outside of the request that asked for them, where a call
    to Flyte has no caller::

        with acting_as(request, settings):
            run = await flyte.run.aio(task, ...)

    Credentials are found as in any request to the app, and each call has the same timeout. The
    block as a whole has none. At its end, calls that are still open are cancelled; later ones are
    refused, also in tasks and threads that were started in the block.

    Don't ``yield`` in the block: a generator's next step may run elsewhere. Open a block for each.

    Args:
        request: The request, or anything else with its headers.
        settings: The app's settings.

    Raises:
        HTTPException: There are no credentials (401), or the app would refuse them (400, 431).
    """
    raw = getattr(request.headers, "raw", None) or Headers(dict(request.headers)).raw
    headers = [(name.lower(), value) for name, value in raw]
    kind, args, options = passthrough_middleware(settings)
    middleware: FastAPIPassthroughAuthMiddleware = kind(Response(), *args, **options)
    scope = {"type": "http", "method": "GET", "path": "", "headers": headers}
    credentials = middleware.credentials(scope)  # as of a request
    calls = RequestCalls(Deadline(settings.flyte_timeout))
    calls.sender.credentials = tuple(credentials.items())
    token, before = current_calls.set(calls), current_limits.set(settings.limits)
    try:
        with remote.auth_metadata(*credentials.items()):
            yield
    finally:
        calls.end()
        current_calls.reset(token)
        current_limits.reset(before)
