"""Services with which a running task starts other tasks and follows them.

Only ``a0`` calls them, with the rights of the run's owner: QueueService and StateService on Union,
ActionsService on the open-source Flyte.
"""

from collections.abc import AsyncIterator
from typing import Any

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyteidl2.actions import actions_service_connect, actions_service_pb2
from flyteidl2.common import identifier_pb2, phase_pb2
from flyteidl2.workflow import (
    queue_service_connect,
    queue_service_pb2,
    run_definition_pb2,
    state_service_connect,
    state_service_pb2,
)

from .access import Context
from .actions import Action, Runs
from .execution import Executor
from .runs import task_metadata


class _Service:
    """Code that the services share."""

    def __init__(self, runs: Runs, executor: Executor) -> None:
        self._runs = runs
        self._executor = executor

    def _start(
        self, wanted: queue_service_pb2.EnqueueActionRequest | actions_service_pb2.Action
    ) -> None:
        """Start an action, or record a trace, for a running one."""
        run = self._runs.get(wanted.action_id.run)
        if wanted.action_id.name in run.actions:
            raise ConnectError(Code.ALREADY_EXISTS, f"{wanted.action_id.name} already exists")
        details = run_definition_pb2.ActionDetails(id=wanted.action_id)
        details.id.run.org = ""  # as in Flyte's answers
        if wanted.HasField("task"):
            self._executor.check(wanted.task.spec)
            details.metadata.CopyFrom(task_metadata(wanted.task.spec))
            details.task.CopyFrom(wanted.task.spec)
        elif wanted.HasField("trace"):
            details.metadata.action_type = run_definition_pb2.ACTION_TYPE_TRACE
            details.metadata.trace.name = wanted.trace.name
            details.trace.CopyFrom(wanted.trace.spec)
        else:
            raise ConnectError(Code.UNIMPLEMENTED, "conditions are not part of the local Flyte")
        details.metadata.parent = wanted.parent_action_name
        details.metadata.group = wanted.group
        action = Action(
            details=details,
            input_uri=wanted.input_uri,
            output_base=wanted.run_output_base,
            changed=run.changed,
        )
        run.actions[action.name] = action
        if wanted.HasField("task"):
            self._executor.start(run, action)
        else:
            action.enter(wanted.trace.phase or phase_pb2.ACTION_PHASE_SUCCEEDED)

    def _abort(self, id_: identifier_pb2.ActionIdentifier, reason: str) -> None:
        self._executor.abort(self._runs.get(id_.run), self._runs.action(id_), reason)

    async def _news(self, id_: identifier_pb2.ActionIdentifier) -> AsyncIterator[dict[str, Any]]:
        """Yield the actions that an action has started, then a marker, then changes.

        Each item is a dictionary with the fields of an answer.
        """
        parent, run = self._runs.action(id_), self._runs.get(id_.run)
        sent: dict[str, phase_pb2.ActionPhase] = {}
        in_step = False
        while parent.running:
            news = [each for each in run.children(parent.name) if sent.get(each.name) != each.phase]
            for child in news:
                sent[child.name] = child.phase
                update = state_service_pb2.ActionUpdate(
                    action_id=child.details.id,
                    phase=child.phase,
                    error=child.error,
                    output_uri=str(child.outputs),  # the folder of the outputs, not the file
                )
                yield {"action_update": update}
            if not in_step:
                in_step = True
                yield {"control_message": state_service_pb2.ControlMessage(sentinel=True)}
            elif not news:
                await run.changed.wait()


class QueueService(_Service, queue_service_connect.QueueService):
    """Starts actions for running tasks on Union."""

    async def enqueue_action(
        self, request: queue_service_pb2.EnqueueActionRequest, ctx: Context
    ) -> queue_service_pb2.EnqueueActionResponse:
        self._start(request)
        return queue_service_pb2.EnqueueActionResponse()

    async def abort_queued_action(
        self, request: queue_service_pb2.AbortQueuedActionRequest, ctx: Context
    ) -> queue_service_pb2.AbortQueuedActionResponse:
        self._abort(request.action_id, request.reason)
        return queue_service_pb2.AbortQueuedActionResponse()


class StateService(_Service, state_service_connect.StateService):
    """Reports the states of actions to the running task that has started them, on Union."""

    async def watch(
        self, request: state_service_pb2.WatchRequest, ctx: Context
    ) -> AsyncIterator[state_service_pb2.WatchResponse]:
        async for fields in self._news(request.parent_action_id):
            yield state_service_pb2.WatchResponse(**fields)


class ActionsService(_Service, actions_service_connect.ActionsService):
    """Combines both services, on the open-source Flyte."""

    async def enqueue(
        self, request: actions_service_pb2.EnqueueRequest, ctx: Context
    ) -> actions_service_pb2.EnqueueResponse:
        self._start(request.action)
        return actions_service_pb2.EnqueueResponse()

    async def abort(
        self, request: actions_service_pb2.AbortRequest, ctx: Context
    ) -> actions_service_pb2.AbortResponse:
        self._abort(request.action_id, request.reason)
        return actions_service_pb2.AbortResponse()

    async def watch_for_updates(
        self, request: actions_service_pb2.WatchForUpdatesRequest, ctx: Context
    ) -> AsyncIterator[actions_service_pb2.WatchForUpdatesResponse]:
        async for fields in self._news(request.parent_action_id):
            yield actions_service_pb2.WatchForUpdatesResponse(**fields)
