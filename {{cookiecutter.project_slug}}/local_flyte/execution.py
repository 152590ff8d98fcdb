"""Executes actions: tasks, and conditions, which wait for a person's answer without a process.

A task is the SDK's own ``a0``, started as a Flyte cluster would start it. There is no scheduler: no
queue, no cache, no timeouts, no resources. An attempt that ends without a result fails; Flyte's
executor would try it three more times.
"""

import asyncio
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyteidl2.common import phase_pb2
from flyteidl2.core import execution_pb2, literals_pb2, types_pb2
from flyteidl2.task import task_definition_pb2
from flyteidl2.workflow import run_service_pb2

from .access import Faults, invalid
from .actions import Action, Pod, Run
from .people import Person
from .processes import DONE, Containers, substituted

ORG = "local"  # the organization for tasks; Flyte itself leaves it out
TAIL = 20  # log lines to quote if an action ends without an error message
RECORD_LAG_SECONDS = 0.1  # from an answer to its record: the asking task gets it at once
RECORDING = "RecordAnswer"  # what hangs, in place of a method, while answers are not recorded

_PAUSED = phase_pb2.ACTION_PHASE_PAUSED
_KINDS = {
    "bool_value": ("boolean", types_pb2.BOOLEAN),
    "int_value": ("integer", types_pb2.INTEGER),
    "float_value": ("float_value", types_pb2.FLOAT),
    "string_value": ("string_value", types_pb2.STRING),
}
"""The field of a primitive value, and the type, by the field of the payload in a request."""


@dataclass(eq=False)
class Executor:
    """Runs actions as processes."""

    _containers: Containers
    _work: Path
    """The folder for their working directories."""
    _cluster_environment: Callable[[Person | None], Mapping[str, str]]
    """Returns the variables that a cluster sets for a task that calls Flyte as this person."""
    keeps_pods: bool
    """Whether the log of an attempt can be read when the next one has begun."""

    _running: dict[int, asyncio.Task[None]] = field(default_factory=dict)

    @staticmethod
    def check(spec: task_definition_pb2.TaskSpec) -> None:
        """Raise UNIMPLEMENTED for a task that can't be executed here."""
        if not spec.task_template.HasField("container"):
            raise ConnectError(Code.UNIMPLEMENTED, "the local Flyte runs tasks in containers only")

    def start(self, run: Run, action: Action) -> None:
        """Execute ``action`` in the background."""
        task = asyncio.create_task(self._execute(run, action))
        self._running[id(action)] = task
        task.add_done_callback(lambda _: self._report_end(action, task))

    def abort(self, run: Run, action: Action, reason: str) -> None:
        """Mark ``action`` as aborted, even if it has ended, and stop all that it started.

        Its conditions, too, which stay paused if it fails.
        """
        action.abort(reason)
        self._cancel(run, action)
        for stopped in (action, *run.descendants(action.name)):
            if id(stopped) not in self._running:  # else its process ends first
                stopped.pods.clear()
            if stopped.phase == _PAUSED:
                stopped.set_status(phase_pb2.ACTION_PHASE_ABORTED)

    async def close(self) -> None:
        """Stop everything, and wait until all processes have ended."""
        for task in self._running.values():
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    def _cancel(self, run: Run, action: Action) -> None:
        for stopped in (action, *run.descendants(action.name)):
            if (task := self._running.get(id(stopped))) is not None:
                task.cancel()

    def _report_end(self, action: Action, task: asyncio.Task[None]) -> None:
        del self._running[id(action)]
        if task.cancelled():
            action.pods.clear()
            action.enter(phase_pb2.ACTION_PHASE_ABORTED)
        action.changed.fire()

    async def _execute(self, run: Run, action: Action) -> None:
        error = await self._attempt(run, action)
        retries = action.details.task.task_template.metadata.retries.retries
        while error is not None and error.recoverability and action.attempt <= retries:
            if not self.keeps_pods:
                action.pods.clear()
            action.attempt += 1
            error = await self._attempt(run, action)
        if error is not None:
            action.fail(error)
        else:
            action.enter(phase_pb2.ACTION_PHASE_SUCCEEDED)
        for child in run.children(action.name):
            self._cancel(run, child)

    async def _attempt(self, run: Run, action: Action) -> execution_pb2.ExecutionError | None:
        """Run the action's container to its end, and return its error, if any."""
        action.enter(phase_pb2.ACTION_PHASE_QUEUED)
        action.enter(phase_pb2.ACTION_PHASE_INITIALIZING)
        container = action.details.task.task_template.container
        tasks = self._work / "tasks"
        tasks.mkdir(parents=True, exist_ok=True)
        directory = Path(tempfile.mkdtemp(prefix=f"{run.id.name}-{action.name}-", dir=tasks))
        values = _template_values(action, self._work)
        declared = {each.key: substituted(each.value, values) for each in container.env}
        asked_for = {each.key: each.value for each in run.spec.envs.values}
        pod = Pod()

        def started() -> None:
            action.pods[action.attempt] = pod
            action.enter(phase_pb2.ACTION_PHASE_RUNNING)

        def output(line: str) -> None:
            pod.write(line)
            action.changed.fire()

        try:
            code = await self._containers.run(
                [substituted(word, values) for word in (*container.command, *container.args)],
                directory=directory,
                environment={
                    **declared,
                    **asked_for,
                    **_action_environment(action),
                    **self._cluster_environment(run.owner),
                },
                started=started,
                output=output,
            )
        finally:
            pod.running = False
        return _error(action, pod, code)


@dataclass(eq=False)
class Conditions:
    """Pauses actions until they are answered or time out."""

    _faults: Faults
    _recording: set[asyncio.Task[None]] = field(default_factory=set)

    def pause(self, action: Action) -> None:
        """Pause an action, at the longest for its condition's timeout."""
        action.set_status(_PAUSED)

        def time_out() -> None:
            if action.answer is None and action.phase == _PAUSED:
                action.set_status(phase_pb2.ACTION_PHASE_TIMED_OUT)

        timeout = action.details.condition.timeout
        if (seconds := timeout.ToTimedelta().total_seconds()) > 0:
            asyncio.get_running_loop().call_later(seconds, time_out)

    def signal(
        self, action: Action, payload: run_service_pb2.EventPayload, someone: Person | None
    ) -> None:
        """Answer a condition as this person; the same answer may be given again."""
        if (given := payload.WhichOneof("value")) is None:
            raise invalid("signal value must be a concrete bool/int/float/str literal")
        answer, (field, kind) = literals_pb2.Literal(), _KINDS[given]
        setattr(answer.scalar.primitive, field, getattr(payload, given))
        if action.answer is not None:
            if action.answer == answer:
                return
            raise ConnectError(Code.FAILED_PRECONDITION, "already signalled with a different value")
        if action.phase != _PAUSED:
            raise ConnectError(
                Code.FAILED_PRECONDITION, f"{action.name} is no condition that waits"
            )
        if action.details.condition.type.simple != kind:
            raise invalid("signal value type does not match declared condition type")

        async def record() -> None:
            await asyncio.sleep(RECORD_LAG_SECONDS)
            await self._faults.wait(RECORDING)
            if action.phase == _PAUSED:
                action.details.signal_info.output.CopyFrom(answer)
                if someone is not None:
                    action.details.signal_info.signalled_by.CopyFrom(someone.identity)
                action.set_status(phase_pb2.ACTION_PHASE_SUCCEEDED)

        action.answer = answer
        action.changed.fire()
        self._recording.add(recording := asyncio.create_task(record()))
        recording.add_done_callback(self._recording.discard)


def _template_values(action: Action, work: Path) -> dict[str, str]:
    id_ = action.details.id
    return {
        "input": action.input_uri,
        "outputPrefix": str(action.outputs),
        "rawOutputDataPrefix": str(work / "raw" / id_.run.name / id_.name),
        "checkpointOutputPrefix": str(work / "checkpoints" / id_.run.name / id_.name),
        "prevCheckpointPrefix": "",
        "runName": id_.run.name,
        "actionName": id_.name,
        "runStartTime": action.created_at.isoformat(),
        "executionProject": id_.run.project,
        "executionDomain": id_.run.domain,
        "executionOrg": ORG,
    }


def _action_environment(action: Action) -> dict[str, str]:
    id_ = action.details.id
    return {
        "ACTION_NAME": id_.name,
        "RUN_NAME": id_.run.name,
        "FLYTE_ATTEMPT_NUMBER": str(action.attempt - 1),
        "FLYTE_INTERNAL_EXECUTION_PROJECT": id_.run.project,
        "FLYTE_INTERNAL_EXECUTION_DOMAIN": id_.run.domain,
        "_U_ORG_NAME": ORG,
        "_U_RUN_BASE": action.output_base,
    }


def _error(action: Action, pod: Pod, code: int) -> execution_pb2.ExecutionError | None:
    """Return the error of an action, or None if it succeeded."""
    document = action.outputs / "error.pb"
    if document.exists():  # a0 exits with 0 even then
        error = execution_pb2.ErrorDocument.FromString(document.read_bytes()).error
        return execution_pb2.ExecutionError(
            code=error.code, message=error.message, kind=error.origin, recoverability=error.kind
        )
    if code in DONE and (action.outputs / "outputs.pb").exists():
        return None
    tail = "".join(line.message for line in pod.log[-TAIL:])
    message = f"the task's process ended with exit code {code} and no outputs:\n{tail}"
    return execution_pb2.ExecutionError(code="NoResult", message=message, kind="SYSTEM")
