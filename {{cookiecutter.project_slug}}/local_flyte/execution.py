"""Execution of actions. Tasks run in processes; conditions wait for a user's answer.

The SDK's program ``a0`` runs each task. The server ignores queues, caches, timeouts and resource
requests of tasks. If an attempt ends without a result, the action fails at once; the real executor
would retry three times.
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
from flyteidl2.logs.dataplane.payload_pb2 import LogLine, LogLineOriginator
from flyteidl2.task import task_definition_pb2
from flyteidl2.workflow import run_service_pb2

from .access import Faults, invalid
from .actions import SUCCESSFUL, TERMINAL, Action, Pod, Run, now
from .people import Person
from .processes import DONE, Containers, substituted
from .secret_service import SecretError, SecretService

ORG = "local"  # name of the organization for tasks; API responses contain no organization
TAIL = 20  # number of log lines to quote if a process fails without reporting an error
RECORD_LAG_SECONDS = 0.1  # the API shows an answer later than the task receives the answer
# Pass this name to `LocalFlyte.hang` to keep new answers out of API responses.
RECORDING = "RecordAnswer"

_PAUSED = phase_pb2.ACTION_PHASE_PAUSED
_KINDS = {
    "bool_value": ("boolean", types_pb2.BOOLEAN),
    "int_value": ("integer", types_pb2.INTEGER),
    "float_value": ("float_value", types_pb2.FLOAT),
    "string_value": ("string_value", types_pb2.STRING),
}
"""Maps the field of an answer's payload to the field of a ``Primitive``, and to its Flyte type."""


@dataclass(eq=False)
class Executor:
    """Runs actions as processes."""

    _containers: Containers
    _secrets: SecretService
    _work: Path
    _cluster_environment: Callable[[Person | None], Mapping[str, str]]
    """Returns the environment that makes a task call Flyte as the given user."""
    keeps_pods: bool
    """Whether the log of an attempt stays readable after a retry."""

    shares: bool = False
    """Whether runs of the same task and inputs share one execution."""

    _running: dict[int, asyncio.Task[None]] = field(default_factory=dict)
    _shared: dict[str, Run] = field(default_factory=dict)
    """Maps `Run.execution` to the run that really executes."""
    _discarded: list[Run] = field(default_factory=list)

    @staticmethod
    def check(spec: task_definition_pb2.TaskSpec) -> None:
        """Raise UNIMPLEMENTED for a task that this server cannot execute."""
        if not spec.task_template.HasField("container"):
            message = "the local Flyte server executes only tasks that run in a container"
            raise ConnectError(Code.UNIMPLEMENTED, message)

    def start(self, run: Run, action: Action) -> None:
        task = asyncio.create_task(self._execute(run, action))
        self._running[id(action)] = task
        task.add_done_callback(lambda _: self._report_end(action, task))

    def discard(self, run: Run) -> None:
        """Abort a deleted run. If other runs may share its execution, wait until `stop_sharing`."""
        if self.shares and self._shared.get(run.execution) is run:
            self._discarded.append(run)
        else:
            self.abort(run, run.root, "deleted by a test")

    def stop_sharing(self) -> None:
        """Let each run execute from now on, and abort the deleted runs."""
        self.shares = False
        for run in self._discarded:
            self.abort(run, run.root, "deleted by a test")
        self._discarded.clear()
        self._shared.clear()

    def abort(self, run: Run, action: Action, reason: str) -> None:
        """Set ``action`` to aborted, even if the action has ended, and stop its descendants."""
        action.abort(reason)
        for member in (action, *run.descendants(action.name)):
            if task := self._running.get(id(member)):
                task.cancel()  # then `_report_end` deletes the pods
            else:
                member.pods.clear()
                if member.details.attempts:  # a copy of a running action has no process
                    member.enter(phase_pb2.ACTION_PHASE_ABORTED)
            if member.phase == _PAUSED:  # no process reports the end of a condition
                member.set_status(phase_pb2.ACTION_PHASE_ABORTED)

    async def close(self) -> None:
        """Cancel all actions, and wait until all processes have ended."""
        for task in self._running.values():
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    def _report_end(self, action: Action, task: asyncio.Task[None]) -> None:
        del self._running[id(action)]
        if task.cancelled():
            action.pods.clear()
            action.enter(phase_pb2.ACTION_PHASE_ABORTED)
        action.changed.fire()

    async def _succeeds_like_another(self, run: Run) -> bool:
        """Wait for another run with the same execution. If it succeeds, succeed with its results.

        Return False if there is no such run, or if it fails or is aborted.
        """
        while (source := self._shared.setdefault(run.execution, run)) is not run:
            if source.root.phase in SUCCESSFUL:
                run.succeed_like(source)
                return True
            if source.root.phase in TERMINAL:
                del self._shared[run.execution]
            else:
                await source.changed.wait()
        return False

    async def _execute(self, run: Run, action: Action) -> None:
        is_shared = self.shares and action is run.root and run.execution
        if is_shared and await self._succeeds_like_another(run):
            return
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
        for member in run.descendants(action.name):
            if task := self._running.get(id(member)):
                task.cancel()

    async def _attempt(self, run: Run, action: Action) -> execution_pb2.ExecutionError | None:
        """Run the action's container until the process ends. Return its error, if any."""
        action.enter(phase_pb2.ACTION_PHASE_QUEUED)
        action.enter(phase_pb2.ACTION_PHASE_INITIALIZING)
        template = action.details.task.task_template
        container, wanted = template.container, template.security_context.secrets
        directory = Path(tempfile.mkdtemp(f"-{run.id.name}-{action.name}", "task-", self._work))
        values = _template_values(action, self._work)
        task_variables = {one.key: substituted(one.value, values) for one in container.env}
        run_variables = {one.key: one.value for one in run.spec.envs.values}
        pod = Pod()

        def started() -> None:
            action.pods[action.attempt] = pod
            action.enter(phase_pb2.ACTION_PHASE_RUNNING)

        def output(line: str) -> None:
            user = LogLineOriginator.USER
            pod.log.append(LogLine(timestamp=now(), message=line, originator=user))
            action.changed.fire()

        try:
            with self._secrets.mounted(wanted, run.id.project, run.id.domain) as secret_variables:
                code = await self._containers.run(
                    [substituted(word, values) for word in (*container.command, *container.args)],
                    directory=directory,
                    environment={
                        **task_variables,
                        **run_variables,
                        **secret_variables,
                        **_action_environment(action),
                        **self._cluster_environment(run.owner),
                    },
                    started=started,
                    output=output,
                )
        except SecretError as error:
            return execution_pb2.ExecutionError(
                code="SecretNotFound", message=str(error), kind="USER"
            )
        finally:
            pod.running = False
        return _error(action, pod, code)


@dataclass(eq=False)
class Conditions:
    """Pauses each condition until a user answers or the timeout ends."""

    _faults: Faults
    _recording: set[asyncio.Task[None]] = field(default_factory=set)

    def pause(self, action: Action) -> None:
        """Pause a condition for at most the timeout that it defines."""

        def time_out() -> None:
            if action.answer is None and action.phase == _PAUSED:
                action.set_status(phase_pb2.ACTION_PHASE_TIMED_OUT)

        action.set_status(_PAUSED)
        if seconds := action.details.condition.timeout.ToTimedelta().total_seconds():
            asyncio.get_running_loop().call_later(seconds, time_out)

    def signal(
        self, run: Run, action: Action, payload: run_service_pb2.EventPayload, caller: Person | None
    ) -> None:
        """Answer a condition as ``caller``. Another call with the same answer has no effect."""
        if (payload_field := payload.WhichOneof("value")) is None:
            raise invalid("signal value must be a concrete bool/int/float/str literal")
        answer, (field, kind) = literals_pb2.Literal(), _KINDS[payload_field]
        setattr(answer.scalar.primitive, field, getattr(payload, payload_field))
        if action.answer is not None:
            if action.answer == answer:
                return
            raise ConnectError(Code.FAILED_PRECONDITION, "already signalled with a different value")
        if action.phase != _PAUSED:
            message = f"{action.name} is not a condition that waits for an answer"
            raise ConnectError(Code.FAILED_PRECONDITION, message)
        if action.details.condition.type.simple != kind:
            raise invalid("signal value type does not match declared condition type")

        async def record() -> None:
            await asyncio.sleep(RECORD_LAG_SECONDS)
            await self._faults.wait(RECORDING)
            if action.phase == _PAUSED:
                action.details.signal_info.output.CopyFrom(answer)
                if caller is not None:
                    action.details.signal_info.signalled_by.CopyFrom(caller.identity)
                action.set_status(phase_pb2.ACTION_PHASE_SUCCEEDED)
                if not run.root.running:  # a copy of a running action has no process
                    run.root.enter(phase_pb2.ACTION_PHASE_SUCCEEDED)

        action.answer = answer
        action.changed.fire()
        self._recording.add(recording := asyncio.create_task(record()))
        recording.add_done_callback(self._recording.discard)


def _template_values(action: Action, work: Path) -> dict[str, str]:
    run, name = action.details.id.run, action.name
    return {
        "input": action.input_uri,
        "outputPrefix": str(action.outputs),
        "rawOutputDataPrefix": str(work / "raw" / run.name / name),
        "checkpointOutputPrefix": str(work / "checkpoints" / run.name / name),
        "prevCheckpointPrefix": "",
        "runName": run.name,
        "actionName": name,
        "runStartTime": action.created_at.isoformat(),
        "executionProject": run.project,
        "executionDomain": run.domain,
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
    document = action.outputs / "error.pb"
    if document.exists():  # a0 exits with 0 even after an error
        error = execution_pb2.ErrorDocument.FromString(document.read_bytes()).error
        return execution_pb2.ExecutionError(
            code=error.code, message=error.message, kind=error.origin, recoverability=error.kind
        )
    if code in DONE and (action.outputs / "outputs.pb").exists():
        return None
    tail = "".join(line.message for line in pod.log[-TAIL:])
    message = f"the task's process ended with exit code {code} and no outputs:\n{tail}"
    return execution_pb2.ExecutionError(code="NoResult", message=message, kind="SYSTEM")
