"""QueueService and StateService: how a running task starts others, and learns what became of them.

Only ``a0`` calls these, as the owner of the run.
"""

from collections.abc import AsyncIterator
from typing import Any

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from connectrpc.request import RequestContext
from flyteidl2.common import phase_pb2
from flyteidl2.workflow import (
    queue_service_connect,
    queue_service_pb2,
    run_definition_pb2,
    state_service_connect,
    state_service_pb2,
)

from .actions import Action, Runs
from .execution import Executor
from .runs import task_metadata


class QueueService(queue_service_connect.QueueService):
    """Takes the actions that running tasks start."""

    def __init__(self, runs: Runs, executor: Executor) -> None:
        self._runs = runs
        self._executor = executor

    async def enqueue_action(
        self, request: queue_service_pb2.EnqueueActionRequest, ctx: RequestContext[Any, Any]
    ) -> queue_service_pb2.EnqueueActionResponse:
        """Start an action, or take note of a trace, on behalf of a running one."""
        run = self._runs.get(request.action_id.run)
        if request.action_id.name in run.actions:
            raise ConnectError(Code.ALREADY_EXISTS, f"{request.action_id.name} exists already")
        details = run_definition_pb2.ActionDetails(id=request.action_id)
        details.id.run.org = ""  # Flyte never names one
        if request.HasField("task"):
            details.metadata.CopyFrom(task_metadata(request.task.spec))
            details.task.CopyFrom(request.task.spec)
        elif request.HasField("trace"):
            details.metadata.action_type = run_definition_pb2.ACTION_TYPE_TRACE
            details.metadata.trace.name = request.trace.name
            details.trace.CopyFrom(request.trace.spec)
        else:
            raise ConnectError(Code.UNIMPLEMENTED, "conditions are not part of the local Flyte")
        details.metadata.parent = request.parent_action_name
        details.metadata.group = request.group
        action = Action(
            details=details,
            input_uri=request.input_uri,
            output_base=request.run_output_base,
            changed=run.changed,
        )
        run.actions[action.name] = action
        if request.HasField("task"):
            self._executor.start(run, action)
        else:
            action.enter(request.trace.phase or phase_pb2.ACTION_PHASE_SUCCEEDED)
        return queue_service_pb2.EnqueueActionResponse()

    async def abort_queued_action(
        self, request: queue_service_pb2.AbortQueuedActionRequest, ctx: RequestContext[Any, Any]
    ) -> queue_service_pb2.AbortQueuedActionResponse:
        """End an action that is no longer wanted."""
        run = self._runs.get(request.action_id.run)
        action = self._runs.action(request.action_id)
        self._executor.abort(run, action, request.reason)
        return queue_service_pb2.AbortQueuedActionResponse()


class StateService(state_service_connect.StateService):
    """Tells a running task about the actions it has started."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    async def watch(
        self, request: state_service_pb2.WatchRequest, ctx: RequestContext[Any, Any]
    ) -> AsyncIterator[state_service_pb2.WatchResponse]:
        """Tell of the actions there are, say so, then tell of changes."""
        parent = self._runs.action(request.parent_action_id)
        run = self._runs.get(request.parent_action_id.run)
        sent: dict[str, phase_pb2.ActionPhase] = {}
        in_step = False
        while not parent.done:
            news = [each for each in run.children(parent.name) if sent.get(each.name) != each.phase]
            for child in news:
                sent[child.name] = child.phase
                yield state_service_pb2.WatchResponse(action_update=_update(child))
            if not in_step:
                in_step = True
                control = state_service_pb2.ControlMessage(sentinel=True)
                yield state_service_pb2.WatchResponse(control_message=control)
            elif not news:
                await run.changed.wait()


def _update(action: Action) -> state_service_pb2.ActionUpdate:
    update = state_service_pb2.ActionUpdate(
        action_id=action.details.id,
        phase=action.phase,
        output_uri=str(action.outputs),  # the folder of the outputs, not the file
    )
    if action.error is not None:
        update.error.CopyFrom(action.error)
    return update
