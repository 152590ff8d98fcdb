"""RunService, for users, and ActionsService, for running tasks."""

import asyncio
import hashlib
import re
import secrets
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyteidl2.actions import actions_service_connect
from flyteidl2.actions import actions_service_pb2 as actions_pb2
from flyteidl2.common import identifier_pb2, list_pb2, phase_pb2
from flyteidl2.common import run_pb2 as common_run_pb2
from flyteidl2.task import task_definition_pb2
from flyteidl2.workflow import run_definition_pb2, run_service_connect, state_service_pb2
from flyteidl2.workflow import run_service_pb2 as pb

from .access import CALLER, Context, invalid, key_of, require
from .actions import ROOT, Action, Run, Runs
from .data import Storage
from .execution import Conditions, Executor
from .listing import Fields, page
from .tasks import ProjectService, TaskService

FIELDS: Fields[Action] = {
    "run_name": lambda action: action.details.id.run.name,
    "created_by_subject": lambda action: (
        action.details.metadata.executed_by.user.id.subject or None
    ),
    "phase": lambda action: action.phase,
    "action_type": lambda action: action.details.metadata.action_type,
    "task_name": lambda action: action.details.metadata.task.id.name or None,
    "task_version": lambda action: action.details.metadata.task.id.version or None,
    "created_at": lambda action: action.created_at,
    "updated_at": lambda action: action.updated_at.ToDatetime(UTC),
}
"""Fields by which requests may filter and sort. The real Flyte has more, but the SDK needs none."""

MAX_WATCHED_ACTIONS = 1000  # maximum number of actions in one message
NO_REASON = "User requested abort"
RUN_NAME = re.compile("[a-z]([-a-z0-9]{0,28}[a-z0-9])?")


@dataclass(eq=False)
class RunService(run_service_connect.RunService):
    """Serves runs. Runs belong to the project, so a user who may run may change all runs."""

    _runs: Runs
    _projects: ProjectService
    _tasks: TaskService
    _storage: Storage
    _executor: Executor
    _conditions: Conditions

    async def create_run(self, request: pb.CreateRunRequest, ctx: Context) -> pb.CreateRunResponse:
        """Create and start a run. If the name is in use, return the existing run of any user."""
        run_id = _run_id(request)
        self._projects.check(run_id.project)
        is_deployed = request.HasField("task_id")
        spec = self._tasks.get(request.task_id).spec if is_deployed else request.task_spec
        self._executor.check(spec)
        base = self._storage.run_base(run_id)
        if request.HasField("offloaded_input_data"):
            inputs = request.offloaded_input_data.uri.rstrip("/")
        else:
            inputs = self._storage.write(Path(base, "inputs"), request.inputs)
        execution = _execution(request, spec)
        new_run = Run(run_id, request.run_spec, CALLER.get(), execution=execution)
        id_ = identifier_pb2.ActionIdentifier(run=run_id, name=ROOT)
        metadata = _task_metadata(spec)
        metadata.source = request.source
        if new_run.owner is not None:
            metadata.executed_by.CopyFrom(new_run.owner.identity)
        details = run_definition_pb2.ActionDetails(id=id_, metadata=metadata, task=spec)
        new_run.actions[ROOT] = Action(details, f"{inputs}/inputs.pb", base, new_run.changed)
        run = self._runs.setdefault(key_of(run_id), new_run)
        if run is new_run:
            self._executor.start(run, run.root)
        return pb.CreateRunResponse(run=_summary(run))

    async def abort_run(self, request: pb.AbortRunRequest, ctx: Context) -> pb.AbortRunResponse:
        """Abort a run. The status becomes aborted even if the run has ended."""
        run = self._runs.run(request.run_id)
        reason = request.reason if request.HasField("reason") else NO_REASON
        self._executor.abort(run, run.root, reason)
        return pb.AbortRunResponse()

    async def abort_action(
        self, request: pb.AbortActionRequest, ctx: Context
    ) -> pb.AbortActionResponse:
        """Abort one action, and all actions below it."""
        run, action = self._runs.run(request.action_id.run), self._runs.action(request.action_id)
        self._executor.abort(run, action, request.reason or NO_REASON)
        return pb.AbortActionResponse()

    async def signal_event(
        self, request: pb.SignalEventRequest, ctx: Context
    ) -> pb.SignalEventResponse:
        run, action = self._runs.run(request.action_id.run), self._runs.action(request.action_id)
        self._conditions.signal(run, action, request.payload, CALLER.get())
        return pb.SignalEventResponse()

    async def get_run_details(
        self, request: pb.GetRunDetailsRequest, ctx: Context
    ) -> pb.GetRunDetailsResponse:
        run = self._runs.run(request.run_id)
        details = run_definition_pb2.RunDetails(run_spec=run.spec, action=run.root.details)
        details.action.id.run.org = request.run_id.org
        return pb.GetRunDetailsResponse(details=details)

    async def get_action_details(
        self, request: pb.GetActionDetailsRequest, ctx: Context
    ) -> pb.GetActionDetailsResponse:
        action = self._runs.action(request.action_id)
        response = pb.GetActionDetailsResponse(details=action.details)
        response.details.id.run.org = request.action_id.run.org
        return response

    async def watch_action_details(
        self, request: pb.WatchActionDetailsRequest, ctx: Context
    ) -> AsyncIterator[pb.WatchActionDetailsResponse]:
        """Send an action now and at each notification, until the executor has reported the end.

        The executor does not report the end of a condition, so the condition's stream never ends.
        """
        action = self._runs.action(request.action_id)
        sent_count, ended = action.notifications, False
        while not ended:
            ended = action.reported_done
            yield pb.WatchActionDetailsResponse(details=action.details)
            sent_count += 1
            while not ended and sent_count > action.notifications:
                await action.changed.wait()

    async def watch_actions(
        self, request: pb.WatchActionsRequest, ctx: Context
    ) -> AsyncIterator[pb.WatchActionsResponse]:
        """Send all actions. Then, at each notification, send the changed action and its ancestors.

        The stream stays open after the end of the run. If no such run exists, the stream stays open
        without messages.
        """
        if (run := self._runs.get(key_of(request.run_id))) is None:
            await asyncio.Event().wait()
            return
        sent_count, enriched = len(run.changed.notified), run.enriched(run.actions)
        for start in range(0, len(enriched), MAX_WATCHED_ACTIONS):
            batch = enriched[start : start + MAX_WATCHED_ACTIONS]
            yield pb.WatchActionsResponse(enriched_actions=batch)
        while True:
            while sent_count == len(run.changed.notified):
                await run.changed.wait()
            action = run.actions[run.changed.notified[sent_count]]
            sent_count += 1
            batch = run.enriched({action.name, *run.ancestors(action)})
            yield pb.WatchActionsResponse(enriched_actions=batch)

    async def list_runs(self, request: pb.ListRunsRequest, ctx: Context) -> pb.ListRunsResponse:
        scope = (request.project_id.name, request.project_id.domain)
        runs = [run for key, run in self._runs.items() if key[:2] == scope]
        roots = [
            run.root for run in runs if run.has_paused_action or not request.paused_actions_only
        ]
        on_page, token = _page(roots, request.request)
        summaries = [_summary(self._runs.run(root.details.id.run)) for root in on_page]
        return pb.ListRunsResponse(runs=summaries, token=token)

    async def list_actions(
        self, request: pb.ListActionsRequest, ctx: Context
    ) -> pb.ListActionsResponse:
        run = self._runs.get(key_of(request.run_id))
        on_page, token = _page(run.actions.values() if run else [], request.request)
        return pb.ListActionsResponse(actions=[action.summary for action in on_page], token=token)


@dataclass(eq=False)
class ActionsService(actions_service_connect.ActionsService):
    """Starts and watches the child actions of a running action. Only ``a0`` calls this service."""

    _runs: Runs
    _executor: Executor
    _conditions: Conditions

    async def enqueue(
        self, request: actions_pb2.EnqueueRequest, ctx: Context
    ) -> actions_pb2.EnqueueResponse:
        """Start a task or a condition, or record a trace, as the child of a running action."""
        child, response = request.action, actions_pb2.EnqueueResponse()
        run = self._runs.run(child.action_id.run)
        name = child.parent_action_name
        parent = require(run.actions.get(name), f"parent action {name}")
        if child.action_id.name in run.actions:
            if child.HasField("condition"):
                return response
            raise ConnectError(Code.ALREADY_EXISTS, f"{child.action_id.name} already exists")
        details = run_definition_pb2.ActionDetails(id=child.action_id)
        details.id.run.org = ""  # responses of the real Flyte have no organization
        metadata = details.metadata
        if child.HasField("task"):
            self._executor.check(child.task.spec)
            metadata.CopyFrom(_task_metadata(child.task.spec))
            details.task.CopyFrom(child.task.spec)
        elif child.HasField("trace"):
            metadata.action_type = run_definition_pb2.ACTION_TYPE_TRACE
            metadata.trace.name = metadata.funtion_name = child.trace.name
            details.trace.CopyFrom(child.trace.spec)
        else:
            metadata.action_type = run_definition_pb2.ACTION_TYPE_CONDITION
            metadata.condition.name = metadata.funtion_name = child.condition.name
            metadata.condition.type.CopyFrom(child.condition.type)
            details.condition.CopyFrom(child.condition)
        metadata.parent, metadata.group = child.parent_action_name, child.group
        action = Action(details, child.input_uri, child.run_output_base, run.changed)
        run.actions[action.name] = action
        if child.HasField("trace"):
            action.stored_at = child.trace.outputs.output_uri
            action.enter(child.trace.phase or phase_pb2.ACTION_PHASE_SUCCEEDED)
            return response
        # The real Flyte resets the number of attempts when it records that the parent runs.
        parent.details.status.attempts = 0
        if child.HasField("condition"):
            self._conditions.pause(action)
        elif (source := self._runs.recovered(run, action.name)) is not None:
            action.stored_at = source.output_uri
            action.enter(phase_pb2.ACTION_PHASE_RECOVERED)
        else:
            self._executor.start(run, action)
        run.changed.fire(action.name)
        return response

    async def abort(
        self, request: actions_pb2.AbortRequest, ctx: Context
    ) -> actions_pb2.AbortResponse:
        run, action = self._runs.run(request.action_id.run), self._runs.action(request.action_id)
        self._executor.abort(run, action, request.reason)
        return actions_pb2.AbortResponse()

    async def watch_for_updates(
        self, request: actions_pb2.WatchForUpdatesRequest, ctx: Context
    ) -> AsyncIterator[actions_pb2.WatchForUpdatesResponse]:
        """Send the child actions of an action, then a sentinel message, then each changed child."""
        id_ = request.parent_action_id
        parent, run = self._runs.action(id_), self._runs.run(id_.run)
        sent_phases: dict[str, phase_pb2.ActionPhase] = {}
        sentinel_sent = False
        while parent.running:
            phases = [(child, child.phase_for_parent) for child in run.children(parent.name)]
            changed = [pair for pair in phases if sent_phases.get(pair[0].name) != pair[1]]
            for child, phase in changed:
                sent_phases[child.name] = phase
                update = state_service_pb2.ActionUpdate(
                    action_id=child.details.id,
                    phase=phase,
                    error=child.error,
                    output_uri=child.output_uri,
                    value=child.answer,
                )
                yield actions_pb2.WatchForUpdatesResponse(action_update=update)
            if not sentinel_sent:
                sentinel_sent = True
                yield actions_pb2.WatchForUpdatesResponse(control_message={"sentinel": True})
            elif not changed:
                await run.changed.wait()


def _task_metadata(spec: task_definition_pb2.TaskSpec) -> run_definition_pb2.ActionMetadata:
    template, id_ = spec.task_template, spec.task_template.id
    return run_definition_pb2.ActionMetadata(
        action_type=run_definition_pb2.ACTION_TYPE_TASK,
        environment_name=spec.environment.name,
        funtion_name=id_.name,
        task=run_definition_pb2.TaskActionMetadata(
            id=task_definition_pb2.TaskIdentifier(  # without an organization
                project=id_.project, domain=id_.domain, name=id_.name, version=id_.version
            ),
            task_type=template.type,
            short_name=spec.short_name,
        ),
    )


def _execution(request: pb.CreateRunRequest, spec: task_definition_pb2.TaskSpec) -> str:
    """Return a hash of task, variables and inputs, or "" for a run that recovers another run."""
    options = request.run_spec
    if options.relation.relation_type == common_run_pb2.RELATION_TYPE_RECOVER:
        return ""
    parts = (spec, options.envs, request.inputs, request.offloaded_input_data)
    content = b"".join(part.SerializeToString(deterministic=True) for part in parts)
    return hashlib.sha256(content).hexdigest()


def _run_id(request: pb.CreateRunRequest) -> identifier_pb2.RunIdentifier:
    """Return the identifier of the new run. Like the real Flyte, omit the organization."""
    if not request.HasField("run_id"):
        return identifier_pb2.RunIdentifier(
            project=request.project_id.name,
            domain=request.project_id.domain,
            name=f"r{secrets.token_hex(10)[1:]}",
        )
    if not RUN_NAME.fullmatch(request.run_id.name):
        raise invalid(f"run name {request.run_id.name!r} does not match {RUN_NAME.pattern}")
    request.run_id.org = ""
    return request.run_id


def _page(actions: Iterable[Action], request: list_pb2.ListRequest) -> tuple[list[Action], str]:
    # The real Flyte's database rejects VALUE_IN with one phase, and other functions with several.
    for condition in request.filters:
        is_list, has_one = condition.function == condition.VALUE_IN, len(condition.values) == 1
        if condition.field == "phase" and is_list == has_one:
            message = f"unable to encode {condition.values[0]!r} into binary format for _int4"
            raise ConnectError(Code.INTERNAL, message)

    def name(action: Action) -> str:
        return f"{action.details.id.run.name} {action.name}"

    return page(actions, request, FIELDS, name=name)


def _summary(run: Run) -> run_definition_pb2.Run:
    return run_definition_pb2.Run(action=run.root.record, labels=run.spec.labels.values)
