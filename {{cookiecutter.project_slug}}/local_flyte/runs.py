"""Runs as people see them (RunService), and as a running task does (ActionsService)."""

import asyncio
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
from flyteidl2.task import task_definition_pb2
from flyteidl2.workflow import run_definition_pb2, run_service_connect, state_service_pb2
from flyteidl2.workflow import run_service_pb2 as pb

from .access import CALLER, Context, found, invalid, key_of
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
"""As on the real one, there are no filters for labels, a parent's name or ``created_by``. The real
one has further fields, which the SDK does not use."""

WATCHED_AT_ONCE = 1000  # actions in a message
NO_REASON = "User requested abort"
RUN_NAME = re.compile("[a-z]([-a-z0-9]{0,28}[a-z0-9])?")


@dataclass(eq=False)
class RunService(run_service_connect.RunService):
    """Runs belong to the project: a person who may change one may change them all."""

    _runs: Runs
    _projects: ProjectService
    _tasks: TaskService
    _storage: Storage
    _executor: Executor
    _conditions: Conditions

    async def create_run(self, request: pb.CreateRunRequest, ctx: Context) -> pb.CreateRunResponse:
        """Create and start a run of a deployed task, or of a task in the request.

        If the name is in use, the caller gets the existing run, even another person's.
        """
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
        wanted = Run(id=run_id, spec=request.run_spec, owner=CALLER.get())
        id_ = identifier_pb2.ActionIdentifier(run=run_id, name=ROOT)
        metadata = _task_metadata(spec)
        metadata.source = request.source
        if wanted.owner is not None:
            metadata.executed_by.CopyFrom(wanted.owner.identity)
        details = run_definition_pb2.ActionDetails(id=id_, metadata=metadata, task=spec)
        wanted.actions[ROOT] = Action(details, f"{inputs}/inputs.pb", base, wanted.changed)
        run = self._runs.add(wanted)
        if run is wanted:
            self._executor.start(run, run.root)
        return pb.CreateRunResponse(run=_summary(run))

    async def abort_run(self, request: pb.AbortRunRequest, ctx: Context) -> pb.AbortRunResponse:
        """Abort a run. One that has ended is also marked as aborted."""
        run = self._runs.get(request.run_id)
        reason = request.reason if request.HasField("reason") else NO_REASON
        self._executor.abort(run, run.root, reason)
        return pb.AbortRunResponse()

    async def abort_action(
        self, request: pb.AbortActionRequest, ctx: Context
    ) -> pb.AbortActionResponse:
        """Abort one action, and the actions that it started."""
        run, action = self._runs.get(request.action_id.run), self._runs.action(request.action_id)
        self._executor.abort(run, action, request.reason or NO_REASON)
        return pb.AbortActionResponse()

    async def signal_event(
        self, request: pb.SignalEventRequest, ctx: Context
    ) -> pb.SignalEventResponse:
        """Answer a condition as the caller."""
        action = self._runs.action(request.action_id)
        self._conditions.signal(action, request.payload, CALLER.get())
        return pb.SignalEventResponse()

    async def get_run_details(
        self, request: pb.GetRunDetailsRequest, ctx: Context
    ) -> pb.GetRunDetailsResponse:
        run = self._runs.get(request.run_id)
        details = run_definition_pb2.RunDetails(run_spec=run.spec, action=run.root.details)
        details.action.id.run.org = request.run_id.org
        return pb.GetRunDetailsResponse(details=details)

    async def get_action_details(
        self, request: pb.GetActionDetailsRequest, ctx: Context
    ) -> pb.GetActionDetailsResponse:
        action = self._runs.action(request.action_id)
        answer = pb.GetActionDetailsResponse(details=action.details)
        answer.details.id.run.org = request.action_id.run.org
        return answer

    async def watch_action_details(
        self, request: pb.WatchActionDetailsRequest, ctx: Context
    ) -> AsyncIterator[pb.WatchActionDetailsResponse]:
        """Send an action now and at each notification, until its end has been reported.

        Several notifications may have the same phase. An abort is reported later than the status
        shows it, and the end of a condition never.
        """
        action = self._runs.action(request.action_id)
        told, ended = action.notifications, False
        while not ended:
            ended = action.reported_done
            yield pb.WatchActionDetailsResponse(details=action.details)
            told += 1
            while not ended and told > action.notifications:
                await action.changed.wait()

    async def watch_actions(
        self, request: pb.WatchActionsRequest, ctx: Context
    ) -> AsyncIterator[pb.WatchActionsResponse]:
        """Send all actions now, and one at each notification, with those that started it.

        It goes on after the run's end. Of a run that does not exist it sends nothing.
        """
        for run in (run for run in self._runs if key_of(run.id) == key_of(request.run_id)):
            told, enriched = len(run.changed.notified), run.enriched(run.actions)
            for start in range(0, len(enriched), WATCHED_AT_ONCE):
                sent = enriched[start : start + WATCHED_AT_ONCE]
                yield pb.WatchActionsResponse(enriched_actions=sent)
            while True:
                while told == len(run.changed.notified):
                    await run.changed.wait()
                action = run.actions[run.changed.notified[told]]
                told += 1
                sent = run.enriched({action.name, *run.ancestors(action)})
                yield pb.WatchActionsResponse(enriched_actions=sent)
        await asyncio.Event().wait()

    async def list_runs(self, request: pb.ListRunsRequest, ctx: Context) -> pb.ListRunsResponse:
        """List the runs of a project and domain."""
        scope = (request.project_id.name, request.project_id.domain)
        runs = (run for run in self._runs if key_of(run.id)[:2] == scope)
        roots = [run.root for run in runs if run.asks or not request.paused_actions_only]
        listed, token = _page(roots, request.request)
        found = [_summary(self._runs.get(root.details.id.run)) for root in listed]
        return pb.ListRunsResponse(runs=found, token=token)

    async def list_actions(
        self, request: pb.ListActionsRequest, ctx: Context
    ) -> pb.ListActionsResponse:
        request.run_id.org = ""
        runs = [run for run in self._runs if run.id == request.run_id]  # it may not exist
        actions = [action for run in runs for action in run.actions.values()]
        listed, token = _page(actions, request.request)
        return pb.ListActionsResponse(actions=[action.summary for action in listed], token=token)


@dataclass(eq=False)
class ActionsService(actions_service_connect.ActionsService):
    """Starts actions for a running one, and follows them, with the rights of the run's owner.

    Only ``a0`` calls it. The SDK can also use QueueService and StateService, but loses conditions
    there.
    """

    _runs: Runs
    _executor: Executor
    _conditions: Conditions

    async def enqueue(
        self, request: actions_pb2.EnqueueRequest, ctx: Context
    ) -> actions_pb2.EnqueueResponse:
        """Start a task or a condition, or record a trace, for a running action."""
        wanted = request.action
        run = self._runs.get(wanted.action_id.run)
        parent = found(run.actions.get(wanted.parent_action_name), "parent of this name")
        if wanted.action_id.name in run.actions:
            if wanted.HasField("condition"):
                return actions_pb2.EnqueueResponse()
            raise ConnectError(Code.ALREADY_EXISTS, f"{wanted.action_id.name} already exists")
        details = run_definition_pb2.ActionDetails(id=wanted.action_id)
        details.id.run.org = ""  # as in Flyte's answers
        if wanted.HasField("task"):
            self._executor.check(wanted.task.spec)
            details.metadata.CopyFrom(_task_metadata(wanted.task.spec))
            details.task.CopyFrom(wanted.task.spec)
        elif wanted.HasField("trace"):
            details.metadata.action_type = run_definition_pb2.ACTION_TYPE_TRACE
            details.metadata.trace.name = details.metadata.funtion_name = wanted.trace.name
            details.trace.CopyFrom(wanted.trace.spec)
        else:
            details.metadata.action_type = run_definition_pb2.ACTION_TYPE_CONDITION
            details.metadata.funtion_name = wanted.condition.name
            details.metadata.condition.name = wanted.condition.name
            details.metadata.condition.type.CopyFrom(wanted.condition.type)
            details.condition.CopyFrom(wanted.condition)
        details.metadata.parent = wanted.parent_action_name
        details.metadata.group = wanted.group
        action = Action(details, wanted.input_uri, wanted.run_output_base, run.changed)
        if wanted.HasField("condition"):
            self._conditions.pause(action)
        run.actions[action.name] = action
        if wanted.HasField("trace"):
            action.stored_at = wanted.trace.outputs.output_uri
            action.enter(wanted.trace.phase or phase_pb2.ACTION_PHASE_SUCCEEDED)
        else:  # Flyte notes that the parent runs, and forgets the number of its attempts
            parent.details.status.attempts = 0
        if wanted.HasField("task"):
            if (source := self._runs.recovered(run, action.name)) is not None:
                action.stored_at = source.output_uri
                action.enter(phase_pb2.ACTION_PHASE_RECOVERED)
            else:
                self._executor.start(run, action)
        run.changed.fire(action.name)
        return actions_pb2.EnqueueResponse()

    async def abort(
        self, request: actions_pb2.AbortRequest, ctx: Context
    ) -> actions_pb2.AbortResponse:
        run, action = self._runs.get(request.action_id.run), self._runs.action(request.action_id)
        self._executor.abort(run, action, request.reason)
        return actions_pb2.AbortResponse()

    async def watch_for_updates(
        self, request: actions_pb2.WatchForUpdatesRequest, ctx: Context
    ) -> AsyncIterator[actions_pb2.WatchForUpdatesResponse]:
        """Send the actions that an action has started, then a marker, then changes."""
        id_ = request.parent_action_id
        parent, run = self._runs.action(id_), self._runs.get(id_.run)
        sent: dict[str, phase_pb2.ActionPhase] = {}
        in_step = False
        while parent.running:
            children = run.children(parent.name)
            news = [child for child in children if sent.get(child.name) != child.phase_for_parent]
            for child in news:
                sent[child.name] = child.phase_for_parent
                update = state_service_pb2.ActionUpdate(
                    action_id=child.details.id,
                    phase=child.phase_for_parent,
                    error=child.error,
                    output_uri=child.output_uri,
                    value=child.answer,
                )
                yield actions_pb2.WatchForUpdatesResponse(action_update=update)
            if not in_step:
                in_step = True
                marker = state_service_pb2.ControlMessage(sentinel=True)
                yield actions_pb2.WatchForUpdatesResponse(control_message=marker)
            elif not news:
                await run.changed.wait()


def _task_metadata(spec: task_definition_pb2.TaskSpec) -> run_definition_pb2.ActionMetadata:
    """Return the metadata of an action that executes a task."""
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


def _run_id(request: pb.CreateRunRequest) -> identifier_pb2.RunIdentifier:
    """Return the identifier of the run to create, without an organization, as in Flyte."""
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
    """Return a page of actions, of one run or of many."""
    for asked in request.filters:  # becomes a statement that Flyte's database rejects
        is_list, has_one = asked.function == asked.VALUE_IN, len(asked.values) == 1
        if asked.field == "phase" and is_list == has_one:
            message = f"unable to encode {asked.values[0]!r} into binary format for _int4"
            raise ConnectError(Code.INTERNAL, message)

    def name(action: Action) -> str:
        return f"{action.details.id.run.name} {action.name}"

    return page(actions, request, FIELDS, name=name)


def _summary(run: Run) -> run_definition_pb2.Run:
    return run_definition_pb2.Run(action=run.root.record, labels=run.spec.labels.values)
