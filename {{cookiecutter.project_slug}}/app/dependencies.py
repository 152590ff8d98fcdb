"""What endpoints ask for: the settings, the project and domain to act in, the run in the path."""

from typing import Annotated

from fastapi import Depends, Path, Query
from flyte import remote
from starlette.requests import HTTPConnection

from . import flyte_client
from .settings import Settings


async def _settings(connection: HTTPConnection) -> Settings:
    settings: Settings = connection.state.settings
    return settings


SettingsDep = Annotated[Settings, Depends(_settings)]


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
