"""Puts the services of the local Flyte together."""

import asyncio
import ssl
import sys
from typing import Any

from starlette.types import ASGIApp

from .access import Access, Faults
from .actions import TERMINAL, Runs
from .apps import AppService
from .clients import Clients
from .conditions import Conditions
from .data import DataProxyService, Storage
from .execution import Executor
from .identity import AuthMetadataService, IdentityService
from .images import ImageService
from .people import Mode
from .processes import Containers
from .projects import ClusterService, ProjectService
from .runs import RunService
from .subtasks import ActionsService
from .tasks import TaskService
from .triggers import TriggerService


class Services:
    """The state that all services share, and the services as ASGI applications."""

    def __init__(self, clients: Clients, containers: Containers, tls: ssl.SSLContext) -> None:
        """Create the services, without deployments or runs.

        Args:
            clients: The configuration for tasks and apps; data goes into its home.
            containers: Starts their processes.
            tls: The TLS context for apps.
        """
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
        conditions = Conditions(self.faults, records_names=union)
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
        served = [_application(each, interceptors=access) for each in services]
        # A client without a token may look up where to sign in.
        served.append(_application(AuthMetadataService(clients.url)))
        self.applications: dict[str, ASGIApp] = {each.path: each for each in served}

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
