"""TaskService: the tasks that have been deployed, in all their versions."""

from datetime import UTC
from typing import Any

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from connectrpc.request import RequestContext
from flyteidl2.task import (
    task_definition_pb2,
    task_service_connect,
    task_service_pb2,
)

from .access import caller
from .actions import now
from .listing import Fields, page

_Details = task_definition_pb2.TaskDetails
FIELDS: Fields[_Details] = {
    "name": lambda task: task.task_id.name,
    "version": lambda task: task.task_id.version,
    "created_at": lambda task: task.metadata.deployed_at.ToDatetime(UTC),
}


class TaskService(task_service_connect.TaskService):
    """Keeps tasks by project, domain, name and version; a version never changes."""

    def __init__(self) -> None:
        self._tasks: dict[tuple[str, str, str], dict[str, _Details]] = {}

    def get(self, id_: task_definition_pb2.TaskIdentifier) -> _Details:
        """Return one version of a task, or raise NOT_FOUND."""
        try:
            return self._tasks[id_.project, id_.domain, id_.name][id_.version]
        except KeyError:
            raise ConnectError(
                Code.NOT_FOUND,
                f"no task {id_.name} of version {id_.version} in {id_.project}/{id_.domain}",
            ) from None

    async def deploy_task(
        self, request: task_service_pb2.DeployTaskRequest, ctx: RequestContext[Any, Any]
    ) -> task_service_pb2.DeployTaskResponse:
        """Keep a new version of a task."""
        del ctx
        id_, spec = request.task_id, request.spec
        versions = self._tasks.setdefault((id_.project, id_.domain, id_.name), {})
        if id_.version in versions:
            raise ConnectError(
                Code.ALREADY_EXISTS, f"task {id_.name} of version {id_.version} is deployed already"
            )
        versions[id_.version] = _Details(
            task_id=id_,
            spec=spec,
            metadata=task_definition_pb2.TaskMetadata(
                deployed_by=caller().identity,
                deployed_at=now(),
                short_name=spec.short_name,
                environment_name=spec.environment.name,
                short_description=spec.documentation.short_description,
            ),
        )
        return task_service_pb2.DeployTaskResponse()

    async def get_task_details(
        self, request: task_service_pb2.GetTaskDetailsRequest, ctx: RequestContext[Any, Any]
    ) -> task_service_pb2.GetTaskDetailsResponse:
        """Show one version of a task."""
        del ctx
        return task_service_pb2.GetTaskDetailsResponse(details=self.get(request.task_id))

    async def list_tasks(
        self, request: task_service_pb2.ListTasksRequest, ctx: RequestContext[Any, Any]
    ) -> task_service_pb2.ListTasksResponse:
        """List the tasks of a project and domain, each in its latest version."""
        del ctx
        if request.known_filters:
            raise ConnectError(Code.INVALID_ARGUMENT, "known_filters are not supported")
        scope = (request.project_id.name, request.project_id.domain)
        # As the real one does: of each task the version that was deployed last.
        latest = [
            list(versions.values())[-1]
            for (project, domain, _), versions in self._tasks.items()
            if (project, domain) == scope
        ]
        details, token = page(latest, request.request, FIELDS)
        return task_service_pb2.ListTasksResponse(
            tasks=[
                task_definition_pb2.Task(task_id=each.task_id, metadata=each.metadata)
                for each in details
            ],
            token=token,
            metadata=task_service_pb2.ListTasksResponse.ListTasksMetadata(total=len(latest)),
        )
