"""TaskService, TriggerService, and ProjectService with one project."""

import operator
from dataclasses import dataclass, field
from datetime import UTC

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyteidl2.common import identifier_pb2
from flyteidl2.project import project_service_connect
from flyteidl2.project import project_service_pb2 as project_pb2
from flyteidl2.task import task_definition_pb2, task_service_connect
from flyteidl2.task import task_service_pb2 as task_pb2
from flyteidl2.trigger import trigger_definition_pb2, trigger_service_connect
from flyteidl2.trigger import trigger_service_pb2 as trigger_pb2

from .access import CALLER, Context, key_of, require
from .actions import now
from .listing import Fields, matching, page

_Task = task_definition_pb2.TaskDetails
_Trigger = trigger_definition_pb2.TriggerDetails
DOMAINS = ("development", "production", "staging")
FIELDS: Fields[_Task] = {
    "name": lambda task: task.task_id.name,
    "version": lambda task: task.task_id.version,
    "created_at": lambda task: task.metadata.deployed_at.ToDatetime(UTC),
}


class ProjectService(project_service_connect.ProjectService):
    """Shows the project to users who may view it."""

    def __init__(self, project: str, domain: str) -> None:
        domains = [project_pb2.Domain(id=name, name=name) for name in {*DOMAINS, domain}]
        self._project = project_pb2.Project(id=project, name=project, domains=domains)

    def check(self, name: str) -> None:
        """Raise NOT_FOUND for a project that does not exist. Domains are not checked."""
        if name not in {self._project.id, "system"}:  # the image builder task is in "system"
            raise ConnectError(Code.NOT_FOUND, f"project {name!r} not found")

    async def list_projects(
        self, request: project_pb2.ListProjectsRequest, ctx: Context
    ) -> project_pb2.ListProjectsResponse:
        """List the project if the caller may view it. No project is archived."""
        caller = CALLER.get()
        visible = (caller is None or caller.can_view) and "eq(state, 1)" not in request.filters
        projects = project_pb2.Projects(projects=[self._project] if visible else [])
        return project_pb2.ListProjectsResponse(projects=projects)

    async def get_project(
        self, request: project_pb2.GetProjectRequest, ctx: Context
    ) -> project_pb2.GetProjectResponse:
        self.check(request.id)
        return project_pb2.GetProjectResponse(project=self._project)


@dataclass(eq=False)
class TaskService(task_service_connect.TaskService):
    """Stores tasks by project, domain, name and version."""

    _projects: ProjectService
    _by_name: dict[tuple[str, str, str], dict[str, _Task]] = field(default_factory=dict)

    def get(self, id_: task_definition_pb2.TaskIdentifier) -> _Task:
        versions = self._by_name.get(key_of(id_), {})
        name = f"task {id_.name} of version {id_.version} in {id_.project}/{id_.domain}"
        return require(versions.get(id_.version), name)

    async def deploy_task(
        self, request: task_pb2.DeployTaskRequest, ctx: Context
    ) -> task_pb2.DeployTaskResponse:
        """Store a version of a task, or replace an existing version. Ignore the task's triggers."""
        id_, spec = request.task_id, request.spec
        self._projects.check(id_.project)
        id_.org = ""
        versions = self._by_name.setdefault(key_of(id_), {})
        earlier = versions.get(id_.version)
        metadata = task_definition_pb2.TaskMetadata(
            deployed_at=earlier.metadata.deployed_at if earlier else now(),
            short_name=spec.short_name,
            environment_name=spec.environment.name,
            short_description=spec.documentation.short_description,
        )
        versions[id_.version] = _Task(task_id=id_, spec=spec, metadata=metadata)
        return task_pb2.DeployTaskResponse()

    async def get_task_details(
        self, request: task_pb2.GetTaskDetailsRequest, ctx: Context
    ) -> task_pb2.GetTaskDetailsResponse:
        return task_pb2.GetTaskDetailsResponse(details=self.get(request.task_id))

    async def list_tasks(
        self, request: task_pb2.ListTasksRequest, ctx: Context
    ) -> task_pb2.ListTasksResponse:
        """List the tasks of a project and domain, each with the latest matching version."""
        scope = (request.project_id.name, request.project_id.domain)
        tasks = [versions for key, versions in self._by_name.items() if key[:2] == scope]
        # Like the real Flyte, filter the versions first, and then take the newest of each task.
        versions = [version for versions in tasks for version in versions.values()]
        matches = matching(versions, request.request, FIELDS)
        latest = {version.task_id.name: version for version in matches}.values()
        name = operator.attrgetter("task_id.name")
        details, token = page(latest, request.request, FIELDS, name=name)
        response = task_pb2.ListTasksResponse(token=token)
        for task in details:
            response.tasks.add(task_id=task.task_id, metadata=task.metadata)
        return response


@dataclass(eq=False)
class TriggerService(trigger_service_connect.TriggerService):
    """Stores triggers by project, domain, task and name. Triggers start no runs here."""

    _triggers: dict[tuple[str, ...], _Trigger] = field(default_factory=dict)

    async def deploy_trigger(
        self, request: trigger_pb2.DeployTriggerRequest, ctx: Context
    ) -> trigger_pb2.DeployTriggerResponse:
        """Store a trigger, or replace the existing trigger with the same name."""
        trigger = _Trigger(spec=request.spec, automation_spec=request.automation_spec)
        trigger.id.name.CopyFrom(request.name)
        self._triggers[_trigger_key(request.name)] = trigger
        return trigger_pb2.DeployTriggerResponse(trigger=trigger)

    async def get_trigger_details(
        self, request: trigger_pb2.GetTriggerDetailsRequest, ctx: Context
    ) -> trigger_pb2.GetTriggerDetailsResponse:
        trigger = self._triggers.get(_trigger_key(request.name))
        trigger = require(trigger, f"trigger {request.name.name}")
        return trigger_pb2.GetTriggerDetailsResponse(trigger=trigger)

    async def list_triggers(
        self, request: trigger_pb2.ListTriggersRequest, ctx: Context
    ) -> trigger_pb2.ListTriggersResponse:
        """List the triggers of a task, in one page."""
        task = request.task_name
        response = trigger_pb2.ListTriggersResponse()
        for key, trigger in self._triggers.items():
            if key[:-1] == (task.project, task.domain, task.name):
                active, automation = trigger.spec.active, trigger.automation_spec
                response.triggers.add(id=trigger.id, active=active, automation_spec=automation)
        return response

    async def update_triggers(
        self, request: trigger_pb2.UpdateTriggersRequest, ctx: Context
    ) -> trigger_pb2.UpdateTriggersResponse:
        """Activate or deactivate triggers. Ignore unknown names."""
        for name in request.names:
            if (trigger := self._triggers.get(_trigger_key(name))) is not None:
                trigger.spec.active = request.active
        return trigger_pb2.UpdateTriggersResponse()


def _trigger_key(name: identifier_pb2.TriggerName) -> tuple[str, ...]:
    return name.project, name.domain, name.task_name, name.name
