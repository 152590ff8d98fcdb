"""TaskService: the deployed tasks, in all their versions."""

from datetime import UTC

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyteidl2.common import list_pb2
from flyteidl2.task import task_definition_pb2, task_service_connect
from flyteidl2.task import task_service_pb2 as pb

from .access import Context, found, key_of
from .actions import now
from .listing import Fields, matching, page
from .projects import ProjectService

_Details = task_definition_pb2.TaskDetails
FIELDS: Fields[_Details] = {
    "project": lambda task: task.task_id.project,
    "domain": lambda task: task.task_id.domain,
    "name": lambda task: task.task_id.name,
    "version": lambda task: task.task_id.version,
    "environment": lambda task: task.metadata.environment_name,
    "deployed_by": lambda _: None,  # Flyte does not store who deployed a task
    "created_at": lambda task: task.metadata.deployed_at.ToDatetime(UTC),
}


class TaskService(task_service_connect.TaskService):
    """Stores tasks by project, domain, name and version."""

    def __init__(self, projects: ProjectService) -> None:
        self._projects = projects
        self.by_name: dict[tuple[str, str, str], dict[str, _Details]] = {}
        """The versions of each task."""

    def add(self, task: _Details) -> None:
        """Store a version of a task, replacing one with the same name."""
        versions = self.by_name.setdefault(key_of(task.task_id), {})
        versions[task.task_id.version] = task

    def get(self, id_: task_definition_pb2.TaskIdentifier) -> _Details:
        """Return one version of a task, or raise NOT_FOUND."""
        versions = self.by_name.get(key_of(id_), {})
        name = f"task {id_.name} of version {id_.version} in {id_.project}/{id_.domain}"
        return found(versions.get(id_.version), name)

    async def deploy_task(
        self, request: pb.DeployTaskRequest, ctx: Context
    ) -> pb.DeployTaskResponse:
        """Store a version of a task, replacing one with the same name; ignore its triggers."""
        id_, spec = request.task_id, request.spec
        self._projects.check(id_.project)
        if not request.HasField("spec"):
            raise ConnectError(Code.INTERNAL, "proto: Marshal called with nil")
        id_.org = ""
        earlier = self.by_name.get(key_of(id_), {}).get(id_.version)
        metadata = task_definition_pb2.TaskMetadata(
            deployed_at=earlier.metadata.deployed_at if earlier else now(),
            short_name=spec.short_name,
            environment_name=spec.environment.name,
            short_description=spec.documentation.short_description,
        )
        self.add(_Details(task_id=id_, spec=spec, metadata=metadata))
        return pb.DeployTaskResponse()

    async def get_task_details(
        self, request: pb.GetTaskDetailsRequest, ctx: Context
    ) -> pb.GetTaskDetailsResponse:
        return pb.GetTaskDetailsResponse(details=self.get(request.task_id))

    async def list_tasks(self, request: pb.ListTasksRequest, ctx: Context) -> pb.ListTasksResponse:
        """List the tasks of a project and domain, each in its latest version, newest first."""
        scope = (request.project_id.name, request.project_id.domain)
        versions = (
            each
            for (project, domain, _), versions in self.by_name.items()
            if (project, domain) == scope and not request.known_filters  # by who deployed it
            for each in versions.values()
        )
        # As in the real one: for each task, the newest of the requested versions.
        wanted = matching(versions, request.request, FIELDS)
        latest = {each.task_id.name: each for each in wanted}.values()
        details, token = page(
            latest,
            request.request,
            FIELDS,
            name=lambda task: task.task_id.name,
            default=[list_pb2.Sort(key="created_at", direction=list_pb2.Sort.DESCENDING)],
            eager=True,
        )
        return pb.ListTasksResponse(
            tasks=[
                task_definition_pb2.Task(task_id=each.task_id, metadata=each.metadata)
                for each in details
            ],
            token=token,
            metadata=pb.ListTasksResponse.ListTasksMetadata(total=len(latest)),
        )
