"""Puts the services of the local Flyte together."""

import asyncio
import ssl
from typing import Any

from flyteidl2.actions.actions_service_connect import ActionsServiceASGIApplication
from flyteidl2.app.app_logs_service_connect import AppLogsServiceASGIApplication
from flyteidl2.app.app_service_connect import AppServiceASGIApplication
from flyteidl2.auth.auth_service_connect import AuthMetadataServiceASGIApplication
from flyteidl2.auth.identity_connect import IdentityServiceASGIApplication
from flyteidl2.cluster.service_connect import ClusterServiceASGIApplication
from flyteidl2.dataproxy.dataproxy_service_connect import DataProxyServiceASGIApplication
from flyteidl2.imagebuilder.service_connect import ImageServiceASGIApplication
from flyteidl2.project.project_service_connect import ProjectServiceASGIApplication
from flyteidl2.task.task_service_connect import TaskServiceASGIApplication
from flyteidl2.trigger.trigger_service_connect import TriggerServiceASGIApplication
from flyteidl2.workflow.run_service_connect import RunServiceASGIApplication
from starlette.types import ASGIApp

from .access import Access, Faults
from .actions import Runs
from .apps import AppLogsService, AppService
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
        with_tls = tls if clients.mode is Mode.UNION else None
        self.apps = AppService(containers, work, clients.app_environment(), clients.url, with_tls)
        union = clients.mode is Mode.UNION
        self.runs = Runs(recovers=union)
        self.executor = Executor(containers, work, clients.task_environment, keeps_pods=union)
        access = [Access(self.faults, clients.mode, proxy)]
        projects = ProjectService(clients.project, clients.domain)
        triggers = TriggerService()
        tasks = TaskService(projects, triggers)
        registry = clients.home / "data" / "registry"
        self.conditions = conditions = Conditions()
        actions = ActionsService(self.runs, self.executor, conditions)
        run_service = RunService(
            self.runs, projects, tasks, self.storage, self.executor, conditions=conditions
        )
        data = DataProxyService(self.runs, projects, tasks, self.storage)
        services: list[tuple[Any, object]] = [
            (IdentityServiceASGIApplication, IdentityService()),
            (ClusterServiceASGIApplication, self.clusters),
            (ProjectServiceASGIApplication, projects),
            (TaskServiceASGIApplication, tasks),
            (TriggerServiceASGIApplication, triggers),
            (RunServiceASGIApplication, run_service),
            (ActionsServiceASGIApplication, actions),
            (DataProxyServiceASGIApplication, data),
            (AppServiceASGIApplication, self.apps),
            (AppLogsServiceASGIApplication, AppLogsService(self.apps)),
        ]
        if not builds_images or clients.mode is Mode.UNION:
            images = ImageService(registry if builds_images else None)
            services.append((ImageServiceASGIApplication, images))
        if clients.mode is Mode.UNION:
            tasks.keep(BUILDER, builder(registry))
        served = [kind(service, interceptors=access) for kind, service in services]
        # A client without a token may look up how to get one.
        served.append(AuthMetadataServiceASGIApplication(AuthMetadataService(clients.url)))
        self.applications: dict[str, ASGIApp] = {each.path: each for each in served}
        if clients.mode is Mode.UNION:
            self.applications["/oauth2"] = Tokens(clients.people)

    async def reset(self) -> None:
        """Stop and delete all runs and apps, and remove all faults; tasks stay deployed."""
        self.faults.clear()
        await asyncio.gather(self.executor.close(), self.apps.clear())
        self.runs.clear()
