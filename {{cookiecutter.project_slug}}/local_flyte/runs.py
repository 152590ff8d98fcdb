"""RunService: starting, showing, watching and aborting runs."""

import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from connectrpc.request import RequestContext
from flyteidl2.common import identifier_pb2
from flyteidl2.task import task_definition_pb2
from flyteidl2.workflow import run_definition_pb2, run_service_connect, run_service_pb2

from .access import caller
from .actions import ROOT, Action, Run, Runs
from .data import Storage
from .execution import Executor
from .listing import Fields, page
from .tasks import TaskService

RUN_FIELDS: Fields[Run] = {
    "name": lambda run: run.id.name,
    "phase": lambda run: run.root.phase,
    "task_name": lambda run: run.root.details.metadata.task.id.name,
    "task_version": lambda run: run.root.details.metadata.task.id.version,
    "created_by": lambda run: run.owner.subject,
    "created_at": lambda run: run.root.created_at,
}
ACTION_FIELDS: Fields[Action] = {
    "name": lambda action: action.name,
    "phase": lambda action: action.phase,
    "parent_name": lambda action: action.details.metadata.parent,
    "created_at": lambda action: action.created_at,
}


class RunService(run_service_connect.RunService):
    """Runs belong to the project: who may change one may change them all."""

    def __init__(
        self, runs: Runs, tasks: TaskService, storage: Storage, executor: Executor
    ) -> None:
        self._runs = runs
        self._tasks = tasks
        self._storage = storage
        self._executor = executor

    async def create_run(
        self, request: run_service_pb2.CreateRunRequest, ctx: RequestContext[Any, Any]
    ) -> run_service_pb2.CreateRunResponse:
        """Create a run of a deployed task, or of one that comes along, and start it."""
        del ctx
        spec = self._task_spec(request)
        if request.HasField("run_id"):
            run_id = request.run_id
        else:
            project = request.project_id
            run_id = identifier_pb2.RunIdentifier(
                org=project.organization,
                project=project.name,
                domain=project.domain,
                name=f"r{secrets.token_hex(9)}",
            )
        run = Run(id=run_id, spec=request.run_spec, owner=caller())
        base = self._storage.run_base(run_id)
        if request.HasField("offloaded_input_data"):
            input_uri = request.offloaded_input_data.uri
        else:
            input_uri = self._storage.write(Path(base, "inputs.pb"), request.inputs)
        action = Action(
            details=run_definition_pb2.ActionDetails(
                id=identifier_pb2.ActionIdentifier(run=run_id, name=ROOT),
                metadata=task_metadata(run, spec),
                task=spec,
            ),
            input_uri=input_uri,
            output_base=base,
            changed=run.changed,
        )
        action.details.metadata.source = request.source
        run.actions[ROOT] = action
        self._runs.add(run)
        self._executor.start(run, action)
        return run_service_pb2.CreateRunResponse(run=_summary(run))

    def _task_spec(self, request: run_service_pb2.CreateRunRequest) -> task_definition_pb2.TaskSpec:
        if request.HasField("task_id"):
            return self._tasks.get(request.task_id).spec
        if request.HasField("task_spec"):
            return request.task_spec
        raise ConnectError(Code.INVALID_ARGUMENT, "a run needs a task_id or a task_spec")

    async def abort_run(
        self, request: run_service_pb2.AbortRunRequest, ctx: RequestContext[Any, Any]
    ) -> run_service_pb2.AbortRunResponse:
        """End a run . One that is over stays as it is."""
        del ctx
        run = self._runs.get(request.run_id)
        self._executor.abort(run, run.root, caller().identity, request.reason)
        return run_service_pb2.AbortRunResponse()

    async def abort_action(
        self, request: run_service_pb2.AbortActionRequest, ctx: RequestContext[Any, Any]
    ) -> run_service_pb2.AbortActionResponse:
        """End one action, and what it started."""
        del ctx
        run = self._runs.get(request.action_id.run)
        action = self._runs.action(request.action_id)
        self._executor.abort(run, action, caller().identity, request.reason)
        return run_service_pb2.AbortActionResponse()

    async def get_run_details(
        self, request: run_service_pb2.GetRunDetailsRequest, ctx: RequestContext[Any, Any]
    ) -> run_service_pb2.GetRunDetailsResponse:
        """Show a run."""
        del ctx
        run = self._runs.get(request.run_id)
        return run_service_pb2.GetRunDetailsResponse(
            details=run_definition_pb2.RunDetails(run_spec=run.spec, action=run.root.details)
        )

    async def get_action_details(
        self, request: run_service_pb2.GetActionDetailsRequest, ctx: RequestContext[Any, Any]
    ) -> run_service_pb2.GetActionDetailsResponse:
        """Show an action."""
        del ctx
        action = self._runs.action(request.action_id)
        return run_service_pb2.GetActionDetailsResponse(details=action.details)

    async def watch_action_details(
        self, request: run_service_pb2.WatchActionDetailsRequest, ctx: RequestContext[Any, Any]
    ) -> AsyncIterator[run_service_pb2.WatchActionDetailsResponse]:
        """Show an action now and at each new phase, until it is over."""
        del ctx
        action = self._runs.action(request.action_id)
        sent = None
        while True:
            if action.phase != sent:
                sent = action.phase
                yield run_service_pb2.WatchActionDetailsResponse(details=action.details)
            if action.done:
                return
            await action.changed.wait()

    async def list_runs(
        self, request: run_service_pb2.ListRunsRequest, ctx: RequestContext[Any, Any]
    ) -> run_service_pb2.ListRunsResponse:
        """List the runs of a project and domain."""
        del ctx
        if not request.HasField("project_id"):
            raise ConnectError(Code.INVALID_ARGUMENT, "runs are listed by project_id only")
        scope = (request.project_id.name, request.project_id.domain)
        runs = (each for each in self._runs if (each.id.project, each.id.domain) == scope)
        found, token = page(runs, request.request, RUN_FIELDS)
        return run_service_pb2.ListRunsResponse(
            runs=[_summary(each) for each in found], token=token
        )

    async def list_actions(
        self, request: run_service_pb2.ListActionsRequest, ctx: RequestContext[Any, Any]
    ) -> run_service_pb2.ListActionsResponse:
        """List the actions of a run."""
        del ctx
        actions = self._runs.get(request.run_id).actions.values()
        found, token = page(actions, request.request, ACTION_FIELDS)
        return run_service_pb2.ListActionsResponse(
            actions=[each.summary for each in found], token=token
        )


def task_metadata(
    run: Run, spec: task_definition_pb2.TaskSpec
) -> run_definition_pb2.ActionMetadata:
    """Describe an action of ``run`` that executes a task."""
    template = spec.task_template
    return run_definition_pb2.ActionMetadata(
        executed_by=run.owner.identity,
        action_type=run_definition_pb2.ACTION_TYPE_TASK,
        environment_name=spec.environment.name,
        task=run_definition_pb2.TaskActionMetadata(
            id=task_definition_pb2.TaskIdentifier(
                org=template.id.org,
                project=template.id.project,
                domain=template.id.domain,
                name=template.id.name,
                version=template.id.version,
            ),
            task_type=template.type,
            short_name=spec.short_name,
        ),
    )


def _summary(run: Run) -> run_definition_pb2.Run:
    return run_definition_pb2.Run(action=run.root.summary, labels=run.spec.labels.values)
