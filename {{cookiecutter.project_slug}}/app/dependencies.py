"""What endpoints ask for: Flyte, who is calling, and the project, domain and run to act on."""

from typing import Annotated

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from fastapi import Depends, Path, Query
from flyteidl2.auth.identity_pb2 import UserInfoRequest
from flyteidl2.common.identifier_pb2 import ActionIdentifier, ProjectIdentifier, RunIdentifier
from flyteidl2.project.project_service_pb2 import ListProjectsRequest
from flyteidl2.workflow.run_definition_pb2 import ActionDetails
from pydantic import BaseModel, Field
from starlette.requests import HTTPConnection

from .flyte_client import ROOT_ACTION, Flyte
from .settings import Settings

# All of these are coroutines: FastAPI runs plain functions in a thread each, which costs more than
# most of them do.


async def _settings(connection: HTTPConnection) -> Settings:
    settings: Settings = connection.state.settings
    return settings


SettingsDep = Annotated[Settings, Depends(_settings)]


async def _flyte(connection: HTTPConnection) -> Flyte:
    flyte: Flyte = connection.state.flyte
    return flyte


FlyteDep = Annotated[Flyte, Depends(_flyte)]
"""Flyte, to be called as whoever sent the request."""


class Caller(BaseModel):
    """A person, or an application with an identity of its own, as Flyte knows them."""

    subject: str | None = Field(
        description="Flyte's identifier of the caller; null if Flyte does not know who it is",
        examples=["00u1alice"],
    )
    name: str | None = Field(examples=["Alice Liddell"])
    email: str | None = Field(examples=["alice@example.com"])
    anonymous: bool = Field(
        description="Whether all callers act as nobody, because Flyte is spoken to in plaintext"
    )


async def _caller(flyte: FlyteDep) -> Caller:
    if flyte.is_plaintext:
        return Caller(subject=None, name=None, email=None, anonymous=True)
    try:
        user = await flyte.identity.user_info(UserInfoRequest())
    except ConnectError as error:
        if error.code is not Code.UNAUTHENTICATED:
            raise
        # Either the credentials are no good, or whoever checked them (a proxy in front of an
        # open-source Flyte) did not say whose they are: then other calls are answered.
        await flyte.projects.list_projects(ListProjectsRequest(limit=1))
        return Caller(subject=None, name=None, email=None, anonymous=False)
    return Caller(
        subject=user.subject or None,
        name=user.name or None,
        email=user.email or None,
        anonymous=False,
    )


CallerDep = Annotated[Caller, Depends(_caller)]
"""Who is calling. Flyte is asked, and refuses credentials that are no good.

For endpoints that call Flyte for nothing else: the middleware only sees that there are credentials.
"""


class ProjectDomain:
    """The Flyte project and domain that a request acts in."""

    def __init__(self, org: str, project: str, domain: str) -> None:
        self.org, self.project, self.domain = org, project, domain

    @property
    def project_id(self) -> ProjectIdentifier:
        """The project and domain, as lists are asked for by."""
        return ProjectIdentifier(organization=self.org, name=self.project, domain=self.domain)

    def run_id(self, name: str) -> RunIdentifier:
        """Identify a run."""
        return RunIdentifier(org=self.org, project=self.project, domain=self.domain, name=name)


async def _project_domain(
    flyte: FlyteDep,
    project: Annotated[str | None, Query(description="Default: the app's project.")] = None,
    domain: Annotated[str | None, Query(description="Default: the app's domain.")] = None,
) -> ProjectDomain:
    return ProjectDomain(flyte.org, project or flyte.project, domain or flyte.domain)


ProjectDomainDep = Annotated[ProjectDomain, Depends(_project_domain)]


async def _action_id(
    within: ProjectDomainDep,
    name: Annotated[str, Path(description="The run's name.", examples=["r4f7d1c02"])],
) -> ActionIdentifier:
    return ActionIdentifier(run=within.run_id(name), name=ROOT_ACTION)


RunIdDep = Annotated[ActionIdentifier, Depends(_action_id)]
"""The run named in the path: its root action, in which Flyte keeps what there is to know of it."""


async def _run(flyte: FlyteDep, action_id: RunIdDep) -> ActionDetails:
    return await flyte.get_action(action_id)


RunDep = Annotated[ActionDetails, Depends(_run)]
"""The run named in the path, fetched as the caller."""
