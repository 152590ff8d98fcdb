"""Other apps on Flyte, called as the caller."""

import asyncio
from typing import Any

import pyqwest
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyte import remote

from .caller import initialised
from .errors import DeadlineExceededError
from .interceptor import callers_credentials
from .request_calls import request_calls
from .transport import require_tls


async def call_app(app: remote.App, method: str, path: str, **options: Any) -> pyqwest.FullResponse:
    """Call another app with the caller's credentials, and return its whole response.

    The owner of that app can read the credentials, so call only apps with names in your code, never
    with names from a request. Redirects are not followed.

    Args:
        app: The app, fetched as this caller: ``await remote.App.get.aio(name)``.
        method: Such as ``GET``.
        path: The path, which begins with a slash.
        options: ``params``, ``headers`` and ``content`` for pyqwest. A dictionary as ``content`` is
            sent as JSON.

    Raises:
        ConnectError: Flyte's address for the app has no TLS, there are no credentials of a caller
            here, or the app cannot be reached.
        DeadlineExceededError: The app did not answer in time.
    """
    if not path.startswith("/"):
        raise ValueError(f"the path must begin with a slash: {path!r}")
    address = app.endpoint.rstrip("/")
    require_tls(address)
    headers = pyqwest.Headers(options.pop("headers", None) or {})
    headers.update(callers_credentials())
    client, calls = initialised().client.session_config.http_client, request_calls()
    try:
        with calls.include():
            async with asyncio.timeout(calls.deadline.timeout):
                response: pyqwest.FullResponse = await client.execute(
                    method, address + path, headers=headers, **options
                )
                return response
    except TimeoutError:
        raise DeadlineExceededError(address, "another app") from None
    except (OSError, pyqwest.ReadError, pyqwest.WriteError, pyqwest.RemoteProtocolError):
        raise ConnectError(Code.UNAVAILABLE, f"{address} cannot be reached") from None
