"""What endpoints ask for: the settings, the project and domain to act in, the run in the path."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Path, Query, Response
from fastapi.security import APIKeyCookie, HTTPBearer
from flyte import remote
from starlette.requests import HTTPConnection

from . import flyte_client
from .settings import Settings


def _settings(connection: HTTPConnection) -> Settings:
    settings: Settings = connection.state.settings
    return settings


SettingsDep = Annotated[Settings, Depends(_settings)]


async def flyte_deadline(settings: SettingsDep) -> AsyncIterator[None]:
    """Let the calls to Flyte that an endpoint makes take no longer than the settings allow.

    Ends when the endpoint returns: what is streamed afterwards minds its own deadlines. Not for
    WebSocket endpoints, which return only when the connection is over.

    Raises:
        TimeoutError: Told to the caller as status 504.
    """
    async with flyte_client.deadline(settings):
        yield


def not_cached(response: Response) -> None:
    """Keep an answer, which is its caller's alone, out of every cache (RFC 9111 5.2.2.5)."""
    response.headers["Cache-Control"] = "no-store"


CREDENTIALS = [
    Depends(HTTPBearer(auto_error=False, description="A Flyte access token.")),
    Depends(
        APIKeyCookie(
            name="flyte_at",
            auto_error=False,
            description="Flyte's sign-in cookie, which a signed-in browser sends by itself.",
        )
    ),
]
"""For OpenAPI and the Authorize button only: requests are checked by the middleware."""


class Scope:
    """The Flyte project and domain that a request acts in."""

    def __init__(
        self,
        settings: SettingsDep,
        project: Annotated[str | None, Query(description="Default: the app's project.")] = None,
        domain: Annotated[str | None, Query(description="Default: the app's domain.")] = None,
    ) -> None:
        """Take what the query gives, and the rest from the settings."""
        self.project = project or settings.flyte_project
        self.domain = domain or settings.flyte_domain


ScopeDep = Annotated[Scope, Depends()]


async def _run(
    settings: SettingsDep,
    scope: ScopeDep,
    name: Annotated[str, Path(description="The run's name.", examples=["r4f7d1c02"])],
) -> remote.RunDetails:
    async with flyte_client.deadline(settings):
        return await flyte_client.get_run(settings, scope.project, scope.domain, name)


RunDep = Annotated[remote.RunDetails, Depends(_run)]
"""The run named in the path, fetched as the caller."""
