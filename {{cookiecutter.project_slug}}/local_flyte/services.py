"""The services of the local Flyte, put together, and the smallest of them."""

import asyncio
import ssl
import sys
from pathlib import Path
from typing import Any

from flyteidl2.auth import auth_service_connect, auth_service_pb2, identity_connect, identity_pb2
from flyteidl2.cluster import payload_pb2 as cluster_pb2
from flyteidl2.cluster import service_connect as cluster_service_connect
from flyteidl2.imagebuilder import definition_pb2 as image_definition_pb2
from flyteidl2.imagebuilder import payload_pb2 as image_pb2
from flyteidl2.imagebuilder import service_connect as image_service_connect
from starlette.types import ASGIApp

from .access import Access, Context, Faults, known_caller
from .actions import TERMINAL, Runs
from .apps import AppService
from .clients import Clients
from .data import DataProxyService, Storage
from .execution import Conditions, Executor
from .people import Mode
from .processes import Containers
from .runs import ActionsService, RunService
from .tasks import ProjectService, TaskService, TriggerService


class IdentityService(identity_connect.IdentityService):
    """Returns the owner of a call's credentials."""

    async def user_info(
        self, request: identity_pb2.UserInfoRequest, ctx: Context
    ) -> identity_pb2.UserInfoResponse:
        person = known_caller()
        return identity_pb2.UserInfoResponse(
            subject=person.subject,
            name=f"{person.given_name} {person.family_name}".strip(),
            given_name=person.given_name,
            family_name=person.family_name,
            email=person.email,
        )


class AuthMetadataService(auth_service_connect.AuthMetadataService):
    """Returns where to sign in."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def get_o_auth2_metadata(
        self, request: auth_service_pb2.GetOAuth2MetadataRequest, ctx: Context
    ) -> auth_service_pb2.GetOAuth2MetadataResponse:
        return auth_service_pb2.GetOAuth2MetadataResponse(issuer=self._url)

    async def get_public_client_config(
        self, request: auth_service_pb2.GetPublicClientConfigRequest, ctx: Context
    ) -> auth_service_pb2.GetPublicClientConfigResponse:
        return auth_service_pb2.GetPublicClientConfigResponse(scopes=["all"])


class ClusterService(cluster_service_connect.ClusterService):
    """Returns this Flyte's address, as the only cluster."""

    def __init__(self, mode: Mode) -> None:
        self._scheme = "http" if mode is Mode.DEVBOX else "https"
        self.endpoint: str | None = None
        """The address to return; None for the one that the caller used."""

    async def select_cluster(
        self, request: cluster_pb2.SelectClusterRequest, ctx: Context
    ) -> cluster_pb2.SelectClusterResponse:
        """Return the address that the caller used.

        The open-source Flyte does so only behind a proxy that sets X-Forwarded-Proto.
        """
        here = f"{self._scheme}://{ctx.request_headers().get('host')}"
        return cluster_pb2.SelectClusterResponse(cluster_endpoint=self.endpoint or here)


class ImageService(image_service_connect.ImageService):
    """Says that every image has been built: the Python environment of this machine replaces all.

    So deploying needs neither ``uv`` nor a package index. The open-source Flyte has no such
    service: the SDK asks the registry that Docker pushes to.
    """

    async def get_image(
        self, request: image_pb2.GetImageRequest, ctx: Context
    ) -> image_pb2.GetImageResponse:
        built = f"local/{Path(request.id.name).name}"
        return image_pb2.GetImageResponse(
            image=image_definition_pb2.Image(id=request.id, fqin=built)
        )


class Services:
    """The state that all services share, and the services as ASGI applications."""

    def __init__(self, clients: Clients, containers: Containers, tls: ssl.SSLContext) -> None:
        """Create the services, without deployments or runs; the TLS context is for apps."""
        work = clients.home / "work"
        self.faults = Faults()
        self.storage = Storage(clients.home / "data")
        self.clusters = ClusterService(clients.mode)
        union = clients.mode is Mode.UNION
        self.apps = AppService(containers, work, clients.app_environment(), clients.url, tls)
        self.runs = Runs(recovers=union)
        self.executor = Executor(containers, work, clients.task_environment, keeps_pods=union)
        access = [Access(self.faults, clients.mode)]
        projects = ProjectService(clients.project, clients.domain)
        self.tasks = tasks = TaskService(projects)
        # The open-source Flyte records the subject of who answers, and no name.
        conditions = Conditions(self.faults, union)
        services: list[object] = [
            IdentityService(),
            self.clusters,
            projects,
            tasks,
            TriggerService(),
            RunService(self.runs, projects, tasks, self.storage, self.executor, conditions),
            ActionsService(self.runs, self.executor, conditions),
            DataProxyService(self.runs, projects, tasks, self.storage),
            self.apps,
        ]
        if union:
            services.append(ImageService())
        served = [_application(service, interceptors=access) for service in services]
        # A client without a token may look up where to sign in.
        served.append(_application(AuthMetadataService(clients.url)))
        self.applications: dict[str, ASGIApp] = {one.path: one for one in served}

    async def stop_runs(self, reason: str) -> None:
        """Abort what has not ended, and wait until all processes have ended."""
        open_runs = [run for run in self.runs if run.root.phase not in TERMINAL]
        for run in open_runs:
            self.executor.abort(run, run.root, reason)
        await self.executor.close()
        for action in (action for run in open_runs for action in run.actions.values()):
            if action.phase not in TERMINAL:
                action.abort(reason)

    async def reset(self) -> None:
        """Stop and delete all runs and apps, and remove all faults; tasks stay deployed."""
        self.faults.clear()
        await asyncio.gather(self.executor.close(), self.apps.clear())
        self.runs.clear()


def _application(service: object, **options: Any) -> Any:
    """Return the ASGI application for a service, which the module of its stub defines."""
    stub = type(service).__bases__[0]
    kind = getattr(sys.modules[stub.__module__], f"{stub.__name__}ASGIApplication")
    return kind(service, **options)
