"""The services of the local Flyte, put together."""

import asyncio
from typing import Any

from connectrpc.server import ConnectASGIApplication
from flyteidl2.app.app_logs_service_connect import AppLogsServiceASGIApplication
from flyteidl2.app.app_service_connect import AppServiceASGIApplication
from flyteidl2.auth.identity_connect import IdentityServiceASGIApplication
from flyteidl2.cluster.service_connect import ClusterServiceASGIApplication
from flyteidl2.common import identity_pb2
from flyteidl2.dataproxy.dataproxy_service_connect import DataProxyServiceASGIApplication
from flyteidl2.imagebuilder.service_connect import ImageServiceASGIApplication
from flyteidl2.project.project_service_connect import ProjectServiceASGIApplication
from flyteidl2.task.task_service_connect import TaskServiceASGIApplication
from flyteidl2.workflow.queue_service_connect import QueueServiceASGIApplication
from flyteidl2.workflow.run_service_connect import RunServiceASGIApplication
from flyteidl2.workflow.state_service_connect import StateServiceASGIApplication
from starlette.types import ASGIApp

from .access import Access, Faults
from .actions import Runs
from .apps import AppLogsService, Apps, AppService
from .clients import Clients
from .clusters import ClusterService
from .data import DataProxyService, Storage
from .execution import Executor
from .identity import IdentityService
from .images import ImageService
from .processes import Containers
from .projects import ProjectService
from .runs import RunService
from .subtasks import QueueService, StateService
from .tasks import TaskService


class Services:
    """What all services share, and the services as ASGI applications."""

    def __init__(self, clients: Clients, containers: Containers) -> None:
        """Begin with nothing deployed and nothing run.

        Args:
            clients: What tasks and apps are told of the local Flyte; data goes into its home.
            containers: What starts their processes.
        """
        work = clients.home / "work"
        self.faults = Faults()
        self.storage = Storage(clients.home / "data")
        self.clusters = ClusterService()
        self.apps = Apps(containers, work, clients.app_environment())
        self._runs = Runs()
        self._executor = Executor(containers, work, clients.task_environment)
        access = [Access(self.faults)]
        tasks = TaskService()
        projects = ProjectService(clients.project, clients.domain)
        runs = RunService(self._runs, tasks, self.storage, self._executor)
        data = DataProxyService(self._runs, self.storage)
        queue = QueueService(self._runs, self._executor)
        services: list[ConnectASGIApplication[Any]] = [
            IdentityServiceASGIApplication(IdentityService(), interceptors=access),
            ClusterServiceASGIApplication(self.clusters, interceptors=access),
            ProjectServiceASGIApplication(projects, interceptors=access),
            TaskServiceASGIApplication(tasks, interceptors=access),
            RunServiceASGIApplication(runs, interceptors=access),
            DataProxyServiceASGIApplication(data, interceptors=access),
            QueueServiceASGIApplication(queue, interceptors=access),
            StateServiceASGIApplication(StateService(self._runs), interceptors=access),
            ImageServiceASGIApplication(ImageService(), interceptors=access),
            AppServiceASGIApplication(AppService(self.apps), interceptors=access),
            AppLogsServiceASGIApplication(AppLogsService(self.apps), interceptors=access),
        ]
        self.applications: dict[str, ASGIApp] = {each.path: each for each in services}

    async def reset(self) -> None:
        """End all runs and apps and forget them, and let nothing go wrong; tasks stay deployed."""
        self.faults.clear()
        self._abort_runs()
        await asyncio.gather(self._executor.close(), *map(self.apps.remove, self.apps))
        self._runs.clear()

    async def close(self) -> None:
        """End all runs, apps and streams, and whatever hangs."""
        self.faults.release()
        self._abort_runs()
        await asyncio.gather(self._executor.close(), self.apps.close())

    def _abort_runs(self) -> None:
        for run in self._runs:
            self._executor.abort(run, run.root, identity_pb2.EnrichedIdentity(), "Flyte stops")
