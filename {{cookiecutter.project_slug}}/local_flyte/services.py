"""Puts the services of the local Flyte together."""

import asyncio
import ssl
import sys
from typing import Any

from starlette.types import ASGIApp

from .access import Access, Faults
from .actions import Runs
from .apps import AppService
from .clients import Clients
from .conditions import Conditions
from .data import DataProxyService, Storage
from .execution import Executor
from .identity import AuthMetadataService, IdentityService, Tokens
from .images import BUILDER, ImageService, builder
from .people import Directory, Mode
from .processes import Containers
from .projects import ClusterService, ProjectService
from .runs import RunService
from .subtasks import ActionsService
from .tasks import TaskService
from .triggers import TriggerService


class Services:
    """The state that all services share, and the services as ASGI applications."""

    def __init__(
        self,
        clients: Clients,
        containers: Containers,
        proxy: Directory | None,
        tls: ssl.SSLContext,
        *,
        builds_images: bool,
    ) -> None:
        """Create the services, without deployments or runs.

        Args:
            clients: The configuration for tasks and apps; data goes into its home.
            containers: Starts their processes.
            proxy: The people that the proxy in front admits; None if there is no proxy.
            tls: The TLS context for apps, if they have TLS.
            builds_images: Whether an image exists only after it was built.
        """
        work = clients.home / "work"
        self.faults = Faults()
        self.storage = Storage(clients.home / "data")
        self.clusters = ClusterService(clients.mode)
        union = clients.mode is Mode.UNION
        with_tls = tls if union else None
        self.apps = AppService(containers, work, clients.app_environment(), clients.url, with_tls)
        self.runs = Runs(recovers=union)
        self.executor = Executor(containers, work, clients.task_environment, keeps_pods=union)
        access = [Access(self.faults, clients.mode, proxy)]
        projects = ProjectService(clients.project, clients.domain)
        triggers = TriggerService()
        tasks = TaskService(projects, triggers)
        registry = clients.home / "data" / "registry"
        self.conditions = Conditions()
        services: list[object] = [
            IdentityService(),
            self.clusters,
            projects,
            tasks,
            triggers,
            RunService(self.runs, projects, tasks, self.storage, self.executor, self.conditions),
            ActionsService(self.runs, self.executor, self.conditions),
            DataProxyService(self.runs, projects, tasks, self.storage),
            self.apps,
        ]
        if not builds_images or union:
            services.append(ImageService(registry if builds_images else None))
        if union:
            tasks.keep(BUILDER, builder(registry))
        served = [_application(each, interceptors=access) for each in services]
        # A client without a token may look up how to get one.
        served.append(_application(AuthMetadataService(clients.url)))
        self.applications: dict[str, ASGIApp] = {each.path: each for each in served}
        if union:
            self.applications["/oauth2"] = Tokens(clients.people)

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
