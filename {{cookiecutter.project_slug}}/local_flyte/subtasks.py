"""ActionsService: a running task starts other actions with it, and follows them.

Only ``a0`` calls it, with the rights of the run's owner. The SDK can also do it with QueueService
and StateService, but loses conditions there.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyteidl2.actions import actions_service_connect
from flyteidl2.actions import actions_service_pb2 as pb
from flyteidl2.common import phase_pb2
from flyteidl2.workflow import run_definition_pb2, state_service_pb2

from .access import Context, found
from .actions import Action, Runs
from .conditions import Conditions
from .execution import Executor
from .runs import task_metadata


@dataclass(eq=False)
class ActionsService(actions_service_connect.ActionsService):
    """Starts actions for a running one."""

    _runs: Runs
    _executor: Executor
    _conditions: Conditions

    async def enqueue(self, request: pb.EnqueueRequest, ctx: Context) -> pb.EnqueueResponse:
        """Start a task or a condition, or record a trace, for a running action."""
        wanted = request.action
        run = self._runs.get(wanted.action_id.run)
        parent = found(run.actions.get(wanted.parent_action_name), "parent of this name")
        if wanted.action_id.name in run.actions:
            if wanted.HasField("condition"):
                return pb.EnqueueResponse()
            raise ConnectError(Code.ALREADY_EXISTS, f"{wanted.action_id.name} already exists")
        details = run_definition_pb2.ActionDetails(id=wanted.action_id)
        details.id.run.org = ""  # as in Flyte's answers
        if wanted.HasField("task"):
            self._executor.check(wanted.task.spec)
            details.metadata.CopyFrom(task_metadata(wanted.task.spec))
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
        action = Action(
            details=details,
            input_uri=wanted.input_uri,
            output_base=wanted.run_output_base,
            changed=run.changed,
        )
        if wanted.HasField("condition"):
            self._conditions.pause(action)
            self._executor.release(run)
        run.actions[action.name] = action
        if wanted.HasField("trace"):
            action.stored_at = wanted.trace.outputs.output_uri
            action.enter(wanted.trace.phase or phase_pb2.ACTION_PHASE_SUCCEEDED)
        else:  # Flyte notes that the parent runs, and forgets the number of its attempts
            parent.details.status.attempts = 0
        if wanted.HasField("task"):
            if (source := self._runs.recovered(run, action.name)) is not None:
                details.metadata.recovered_from.CopyFrom(source.details.id)
                action.stored_at = source.output_uri
                action.enter(phase_pb2.ACTION_PHASE_RECOVERED)
            else:
                self._executor.start(run, action)
        run.changed.fire(action.name)
        return pb.EnqueueResponse()

    async def abort(self, request: pb.AbortRequest, ctx: Context) -> pb.AbortResponse:
        run, action = self._runs.get(request.action_id.run), self._runs.action(request.action_id)
        self._executor.abort(run, action, request.reason)
        return pb.AbortResponse()

    async def watch_for_updates(
        self, request: pb.WatchForUpdatesRequest, ctx: Context
    ) -> AsyncIterator[pb.WatchForUpdatesResponse]:
        """Send the actions that an action has started, then a marker, then changes."""
        id_ = request.parent_action_id
        parent, run = self._runs.action(id_), self._runs.get(id_.run)
        sent: dict[str, phase_pb2.ActionPhase] = {}
        in_step = False
        while parent.running:
            children = run.children(parent.name)
            news = [each for each in children if sent.get(each.name) != each.phase_for_parent]
            for child in news:
                sent[child.name] = child.phase_for_parent
                update = state_service_pb2.ActionUpdate(
                    action_id=child.details.id,
                    phase=child.phase_for_parent,
                    error=child.error,
                    output_uri=child.output_uri,
                    value=child.answer,
                )
                yield pb.WatchForUpdatesResponse(action_update=update)
            if not in_step:
                in_step = True
                marker = state_service_pb2.ControlMessage(sentinel=True)
                yield pb.WatchForUpdatesResponse(control_message=marker)
            elif not news:
                await run.changed.wait()
