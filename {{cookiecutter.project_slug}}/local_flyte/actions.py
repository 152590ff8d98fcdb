"""State of runs and actions in the local Flyte server."""

import asyncio
import copy
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from flyteidl2.common import identifier_pb2, phase_pb2
from flyteidl2.common import run_pb2 as common_run_pb2
from flyteidl2.core import execution_pb2, literals_pb2
from flyteidl2.logs.dataplane import payload_pb2
from flyteidl2.task import run_pb2
from flyteidl2.workflow import run_definition_pb2
from google.protobuf.timestamp_pb2 import Timestamp

from .access import key_of, require
from .people import Person

ROOT = "a0"  # name of the first action of a run, as on a Flyte cluster

SUCCESSFUL = {phase_pb2.ACTION_PHASE_SUCCEEDED, phase_pb2.ACTION_PHASE_RECOVERED}
_RETRYABLE = {phase_pb2.ACTION_PHASE_FAILED, phase_pb2.ACTION_PHASE_TIMED_OUT}
TERMINAL = {*SUCCESSFUL, *_RETRYABLE, phase_pb2.ACTION_PHASE_ABORTED}


def now() -> Timestamp:
    """Return the current time as a protobuf timestamp."""
    timestamp = Timestamp()
    timestamp.GetCurrentTime()
    return timestamp


class Signal:
    """A recurring event that several asyncio tasks can wait for."""

    def __init__(self) -> None:
        self._next = asyncio.Event()
        self.notified: list[str] = []
        """For each notification, the name of the action that changed, oldest first."""

    def fire(self, *notified: str) -> None:
        self.notified += notified
        self._next.set()
        self._next = asyncio.Event()

    async def wait(self) -> None:
        await self._next.wait()


@dataclass
class Pod:
    """The container of one attempt. The log of the container is deleted with the pod."""

    running: bool = True
    log: list[payload_pb2.LogLine] = field(default_factory=list)


@dataclass
class Action:
    """One execution of a task, a condition or a trace. A trace is recorded after its end.

    Like the real Flyte, this class stores the phase in two places. ``details.attempts`` holds the
    events that the executor has reported. In these events, a retried attempt has neither an end nor
    an error. ``details.status`` is the database record, which an abort changes at once.
    """

    details: run_definition_pb2.ActionDetails
    """The state of the action, as the API returns it."""
    input_uri: str
    output_base: str
    """Folder of the run, which contains the outputs of all actions."""
    changed: Signal
    """Fires when an action of the run changes or prints a line."""
    attempt: int = 1
    """Number of the latest attempt."""
    stored_at: str = ""
    """URI of the outputs, if they are not in the folder of the latest attempt."""
    error: execution_pb2.ExecutionError | None = None
    answer: literals_pb2.Literal | None = None
    """Answer to a condition. The parent action receives the answer before the API returns it."""
    pods: dict[int, Pod] = field(default_factory=dict)
    """Pods that still exist, by attempt."""
    updated_at: Timestamp = field(default_factory=now)
    notifications: int = 0
    """Number of notifications to watchers. Each reported phase causes two notifications."""

    def __post_init__(self) -> None:
        self.details.status.attempts = 1
        self.details.status.phase = phase_pb2.ACTION_PHASE_QUEUED
        self.details.status.start_time.CopyFrom(now())

    @property
    def name(self) -> str:
        return self.details.id.name

    @property
    def phase(self) -> phase_pb2.ActionPhase:
        return self.details.status.phase

    @property
    def reported_done(self) -> bool:
        """Whether the executor has reported a terminal phase."""
        return any(attempt.phase in TERMINAL for attempt in self.details.attempts)

    @property
    def created_at(self) -> datetime:
        return self.details.status.start_time.ToDatetime(UTC)

    @property
    def running(self) -> bool:
        """Whether a process of this action runs. The phase can change before the process ends."""
        return any(pod.running for pod in self.pods.values())

    @property
    def outputs(self) -> Path:
        """Folder of the latest attempt, where ``a0`` writes the outputs, error and report."""
        return Path(self.output_base, self.name, str(self.attempt))

    @property
    def output_uri(self) -> str:
        """URI of the outputs for the parent action: a folder for a task, or a file for a trace."""
        return self.stored_at or str(self.outputs)

    @property
    def phase_for_parent(self) -> phase_pb2.ActionPhase:
        is_answered = self.answer is not None and self.phase == phase_pb2.ACTION_PHASE_PAUSED
        return phase_pb2.ACTION_PHASE_SUCCEEDED if is_answered else self.phase

    @property
    def record(self) -> run_definition_pb2.Action:
        """The action with complete metadata, for lists of runs."""
        id_, metadata, status = self.details.id, self.details.metadata, self.details.status
        return run_definition_pb2.Action(id=id_, metadata=metadata, status=status)

    @property
    def summary(self) -> run_definition_pb2.Action:
        """The action without type, task and name, as ListActions returns it."""
        record, metadata = self.record, self.details.metadata
        record.metadata.Clear()
        record.metadata.parent, record.metadata.group = metadata.parent, metadata.group
        return record

    def enter(self, phase: phase_pb2.ActionPhase) -> None:
        """Record a phase that the executor reports, and notify watchers."""
        if not self.reported_done:
            self._record(phase)
            self._notify()
            self.set_status(phase)

    def fail(self, error: execution_pb2.ExecutionError) -> None:
        self.error = error
        is_user = error.kind == execution_pb2.ExecutionError.USER
        info = self.details.attempts[-1].error_info
        info.message, info.kind = error.message, info.KIND_USER if is_user else info.KIND_SYSTEM
        self.enter(phase_pb2.ACTION_PHASE_FAILED)

    def abort(self, reason: str) -> None:
        """Set the status to aborted, even after the end. The executor reports the abort later."""
        self.set_status(phase_pb2.ACTION_PHASE_ABORTED)
        self.details.abort_info.reason = reason

    def _notify(self) -> None:
        self.notifications += 1
        self.changed.fire(self.name)

    def _record(self, phase: phase_pb2.ActionPhase) -> None:
        moment, attempts = now(), self.details.attempts
        if not attempts or attempts[-1].attempt != self.attempt:
            new = attempts.add(attempt=self.attempt, start_time=moment)
            new.outputs.output_uri = str(self.outputs / "outputs.pb")
            new.outputs.report_uri = str(self.outputs / "report.html")  # even if no report exists
        attempt = attempts[-1]
        transitions = attempt.phase_transitions
        if phase not in [transition.phase for transition in transitions]:
            if transitions:
                transitions[-1].end_time.CopyFrom(moment)
            transitions.add(phase=phase, start_time=moment)
        attempt.phase = phase
        attempt.logs_available = attempt.logs_available or phase == phase_pb2.ACTION_PHASE_RUNNING
        if phase in TERMINAL:
            transitions[-1].end_time.CopyFrom(moment)
            attempt.end_time.CopyFrom(moment)

    def set_status(self, phase: phase_pb2.ActionPhase) -> None:
        """Set the phase in the database record, and notify watchers.

        Ignore a phase that is earlier than the current phase, unless the action starts again after
        a failure.
        """
        self.updated_at, status = now(), self.details.status
        ends_pause = status.phase == phase_pb2.ACTION_PHASE_PAUSED and phase in TERMINAL
        if status.phase <= phase or status.phase in _RETRYABLE or ends_pause:
            status.phase, status.attempts = phase, self.attempt
            if phase == phase_pb2.ACTION_PHASE_FAILED:
                self.details.error_info.CopyFrom(self.details.attempts[-1].error_info)
            elif phase == phase_pb2.ACTION_PHASE_ABORTED:
                self.details.abort_info.SetInParent()
        if self.details.attempts or self.details.HasField("condition"):
            status.start_time.nanos = 0  # Kubernetes stores times in whole seconds
        if phase in TERMINAL and not status.HasField("end_time"):
            status.end_time.CopyFrom(self.updated_at)
            start, end = status.start_time, status.end_time
            status.duration_ms = end.ToMilliseconds() - start.ToMilliseconds()
        self._notify()


@dataclass
class Run:
    """A run and its actions, in order of creation."""

    id: identifier_pb2.RunIdentifier
    spec: run_pb2.RunSpec
    owner: Person | None
    actions: dict[str, Action] = field(default_factory=dict)
    changed: Signal = field(default_factory=Signal)
    execution: str = ""
    """Hash of task, variables and inputs. Runs with the same hash may share one execution."""

    @property
    def root(self) -> Action:
        return self.actions[ROOT]

    @property
    def has_paused_action(self) -> bool:
        """Whether a condition of the run waits for an answer. The run itself may have ended."""
        return phase_pb2.ACTION_PHASE_PAUSED in {action.phase for action in self.actions.values()}

    def copy_actions(self, source: "Run") -> None:
        """Copy the actions of another run, with the owner of this run."""
        for original in source.actions.values():
            self.actions[original.name] = action = copy.copy(original)
            action.changed, action.details = self.changed, copy.deepcopy(original.details)
            action.pods = dict(original.pods)
            action.details.id.run.name = self.id.name
            if self.owner:
                action.details.metadata.executed_by.CopyFrom(self.owner.identity)
            status = action.details.status
            for moment in ("start_time", "end_time"):
                if status.HasField(moment):
                    getattr(status, moment).CopyFrom(now())

    def succeed_like(self, source: "Run") -> None:
        """Succeed at once, with the actions, the outputs and the log of another run."""
        root = self.root
        self.copy_actions(source)
        self.actions[ROOT] = root
        root.output_base, root.pods = source.root.output_base, dict(source.root.pods)
        for phase in (
            phase_pb2.ACTION_PHASE_QUEUED,
            phase_pb2.ACTION_PHASE_INITIALIZING,
            phase_pb2.ACTION_PHASE_RUNNING,
            phase_pb2.ACTION_PHASE_SUCCEEDED,
        ):
            root.enter(phase)

    def children(self, parent: str) -> list[Action]:
        actions = self.actions.values()
        return [action for action in actions if action.details.metadata.parent == parent]

    def descendants(self, parent: str) -> Iterator[Action]:
        """Return all actions below the action named ``parent``, depth first."""
        for child in self.children(parent):
            yield child
            yield from self.descendants(child.name)

    def ancestors(self, action: Action) -> Iterator[str]:
        """Return the names of the parent action, of the parent's parent, and so on."""
        while parent := action.details.metadata.parent:
            yield parent
            action = self.actions[parent]

    def enriched(self, names: Collection[str]) -> list[run_definition_pb2.EnrichedAction]:
        """Return the named actions, parents first, as WatchActions sends them."""
        records = [action.record for action in self.actions.values() if action.name in names]
        for record in records:
            for omitted in ("action_type", "executed_by"):
                record.metadata.ClearField(omitted)
        enriched = run_definition_pb2.EnrichedAction
        return [enriched(action=record, meets_filter=True) for record in records]


class Runs(dict[tuple[str, str, str], Run]):
    """All runs by project, domain and name."""

    def __init__(self, *, recovers: bool) -> None:
        """Create the store. If ``recovers`` is false (open-source Flyte), all actions rerun."""
        super().__init__()
        self._recovers = recovers

    def copy_run(self, source: Run, name: str, owner: Person) -> None:
        """Store a copy of a run under another name, with ``owner`` as the run owner."""
        run = Run(copy.deepcopy(source.id), source.spec, owner)
        run.id.name = name
        run.copy_actions(source)
        self[key_of(run.id)] = run

    def recovered(self, run: Run, name: str) -> Action | None:
        """If the run recovers another run, return the succeeded action to reuse; otherwise None."""
        relation = run.spec.relation
        if not self._recovers or relation.relation_type != common_run_pb2.RELATION_TYPE_RECOVER:
            return None
        source = self.get(key_of(relation.related_to))
        action = source.actions.get(name) if source else None
        return action if action is not None and action.phase in SUCCESSFUL else None

    def delete_pods(self) -> None:
        for run in self.values():
            for action in run.actions.values():
                action.pods = {number: pod for number, pod in action.pods.items() if pod.running}

    def run(self, id_: identifier_pb2.RunIdentifier) -> Run:
        """Return the run, or raise NOT_FOUND."""
        run = self.get(key_of(id_))
        return require(run, f"run {id_.name} in {id_.project}/{id_.domain}")

    def action(self, id_: identifier_pb2.ActionIdentifier) -> Action:
        """Return the action, or raise NOT_FOUND."""
        action = self.run(id_.run).actions.get(id_.name)
        return require(action, f"action {id_.name} of run {id_.run.name}")
