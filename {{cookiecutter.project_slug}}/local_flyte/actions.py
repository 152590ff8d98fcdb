"""Runs and their actions: the local Flyte's record of executions."""

import asyncio
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

from .access import found, key_of
from .people import Person

ROOT = "a0"  # the name of a run's first action, as on a Flyte cluster

SUCCESSFUL = {phase_pb2.ACTION_PHASE_SUCCEEDED, phase_pb2.ACTION_PHASE_RECOVERED}
_MAY_CHANGE = {phase_pb2.ACTION_PHASE_FAILED, phase_pb2.ACTION_PHASE_TIMED_OUT}
TERMINAL = {*SUCCESSFUL, *_MAY_CHANGE, phase_pb2.ACTION_PHASE_ABORTED}


def now() -> Timestamp:
    """Return the current time as a protobuf timestamp."""
    timestamp = Timestamp()
    timestamp.GetCurrentTime()
    return timestamp


class Signal:
    """A recurring event that several tasks can wait for."""

    def __init__(self) -> None:
        self._next = asyncio.Event()
        self.notified: list[str] = []
        """The name of an action for each notification about it."""

    def fire(self, *notified: str) -> None:
        self.notified += notified
        self._next.set()
        self._next = asyncio.Event()

    async def wait(self) -> None:
        await self._next.wait()


@dataclass
class Pod:
    """What executes an attempt, and its log, which is lost with it."""

    running: bool = True
    log: list[payload_pb2.LogLine] = field(default_factory=list)

    def write(self, line: str) -> None:
        """Add a line, with its line break, to the log."""
        user = payload_pb2.LogLineOriginator.USER
        self.log.append(payload_pb2.LogLine(timestamp=now(), message=line, originator=user))


@dataclass
class Action:
    """One execution of one task, a condition, or a trace (which is reported after it has ended).

    As on the real Flyte there are two copies of its state. The executor's events are shown as its
    attempts; an attempt that is followed by another one has no end and no error. The database
    record is its status, which an abort changes before the executor reports anything.
    """

    details: run_definition_pb2.ActionDetails
    """All of its state, as the API shows it."""
    input_uri: str
    """The folder of its inputs."""
    output_base: str
    """The folder of the run, which contains the outputs of its actions."""
    changed: Signal
    """Fires when any action of the run changes, or prints something."""
    attempt: int = 1
    """The number of the latest attempt."""
    stored_at: str = ""
    """The URI of its outputs, if it is not that of the latest attempt."""
    error: execution_pb2.ExecutionError | None = None
    answer: literals_pb2.Literal | None = None
    """The answer to a condition, which its parent gets before it is recorded."""
    pods: dict[int, Pod] = field(default_factory=dict)
    """Its pods that exist, by attempt."""
    updated_at: Timestamp = field(default_factory=now)
    notifications: int = 0
    """The number of notifications to watchers; there are two about each status."""

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
        """Whether the executor has reported the end."""
        return any(attempt.phase in TERMINAL for attempt in self.details.attempts)

    @property
    def created_at(self) -> datetime:
        return self.details.status.start_time.ToDatetime(UTC)

    @property
    def running(self) -> bool:
        """Whether its process is running, which its state may not show: see ``Executor.start``."""
        return any(pod.running for pod in self.pods.values())

    @property
    def outputs(self) -> Path:
        """The folder that ``a0`` writes the outputs, the error and the report of an attempt to."""
        return Path(self.output_base, self.name, str(self.attempt))

    @property
    def output_uri(self) -> str:
        """Where its parent finds its outputs: a task's in this folder, a trace's in this file."""
        return self.stored_at or str(self.outputs)

    @property
    def phase_for_parent(self) -> phase_pb2.ActionPhase:
        """The phase that the action which has started it is told."""
        answered = self.answer is not None and self.phase == phase_pb2.ACTION_PHASE_PAUSED
        return phase_pb2.ACTION_PHASE_SUCCEEDED if answered else self.phase

    @property
    def record(self) -> run_definition_pb2.Action:
        """The action with all of its metadata."""
        all_ = self.details
        return run_definition_pb2.Action(id=all_.id, metadata=all_.metadata, status=all_.status)

    @property
    def summary(self) -> run_definition_pb2.Action:
        """The action as the list of a run's actions shows it, without its type, task or name."""
        id_, status, all_ = self.details.id, self.details.status, self.details.metadata
        shown = run_definition_pb2.ActionMetadata(parent=all_.parent, group=all_.group)
        return run_definition_pb2.Action(id=id_, metadata=shown, status=status)

    def enter(self, phase: phase_pb2.ActionPhase) -> None:
        """Enter another phase, as reported by the executor, and notify watchers."""
        if not self.reported_done:
            self._record(phase)
            self._notify()
            self.set_status(phase)

    def fail(self, error: execution_pb2.ExecutionError) -> None:
        self.error = error
        info = run_definition_pb2.ErrorInfo(message=error.message)
        user = error.kind == execution_pb2.ExecutionError.USER
        info.kind = info.KIND_USER if user else info.KIND_SYSTEM
        self.details.attempts[-1].error_info.CopyFrom(info)
        self.enter(phase_pb2.ACTION_PHASE_FAILED)

    def abort(self, reason: str) -> None:
        """Mark it as aborted, even if it has ended; the executor reports the end itself."""
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
            new.outputs.report_uri = str(self.outputs / "report.html")  # even if there is none
        attempt = attempts[-1]
        transitions = attempt.phase_transitions
        if phase not in [entered.phase for entered in transitions]:
            if transitions:
                transitions[-1].end_time.CopyFrom(moment)
            transitions.add(phase=phase, start_time=moment)
        attempt.phase = phase
        attempt.logs_available = attempt.logs_available or phase == phase_pb2.ACTION_PHASE_RUNNING
        if phase in TERMINAL:
            transitions[-1].end_time.CopyFrom(moment)
            attempt.end_time.CopyFrom(moment)

    def set_status(self, phase: phase_pb2.ActionPhase) -> None:
        """Change the database record, and notify watchers. A phase does not go back."""
        self.updated_at, status = now(), self.details.status
        answered = status.phase == phase_pb2.ACTION_PHASE_PAUSED and phase in TERMINAL
        if status.phase <= phase or status.phase in _MAY_CHANGE or answered:
            status.phase, status.attempts = phase, self.attempt
            if phase == phase_pb2.ACTION_PHASE_FAILED:
                self.details.error_info.CopyFrom(self.details.attempts[-1].error_info)
            elif phase == phase_pb2.ACTION_PHASE_ABORTED:
                self.details.abort_info.SetInParent()
        if self.details.attempts or self.details.HasField("condition"):
            status.start_time.nanos = 0  # the time of its resource, in whole seconds
        if phase in TERMINAL and not status.HasField("end_time"):
            status.end_time.CopyFrom(self.updated_at)
            milliseconds = status.end_time.ToMilliseconds() - status.start_time.ToMilliseconds()
            status.duration_ms = milliseconds
        self._notify()


@dataclass
class Run:
    """A run: who started it, and its actions in the order of their creation."""

    id: identifier_pb2.RunIdentifier
    spec: run_pb2.RunSpec
    owner: Person | None
    """Who started it, as far as Flyte knows."""
    actions: dict[str, Action] = field(default_factory=dict)
    changed: Signal = field(default_factory=Signal)

    @property
    def root(self) -> Action:
        return self.actions[ROOT]

    @property
    def asks(self) -> bool:
        """Whether one of its actions waits for an answer, even if the run has failed."""
        return phase_pb2.ACTION_PHASE_PAUSED in {one.phase for one in self.actions.values()}

    def children(self, parent: str) -> list[Action]:
        """Return the actions started by the action with this name."""
        return [one for one in self.actions.values() if one.details.metadata.parent == parent]

    def descendants(self, parent: str) -> Iterator[Action]:
        """Return the actions started by the action with this name, or by their children."""
        for child in self.children(parent):
            yield child
            yield from self.descendants(child.name)

    def ancestors(self, action: Action) -> Iterator[str]:
        """Return the names of the action that started this one, of its own parent, and so on."""
        while parent := action.details.metadata.parent:
            yield parent
            action = self.actions[parent]

    def enriched(self, names: Collection[str]) -> list[run_definition_pb2.EnrichedAction]:
        """Return actions, parents first, with what they execute."""
        enriched = [
            run_definition_pb2.EnrichedAction(action=action.record, meets_filter=True)
            for action in self.actions.values()
            if action.name in names
        ]
        for shown in enriched:
            for omitted in ("action_type", "executed_by"):
                shown.action.metadata.ClearField(omitted)
        return enriched


class Runs:
    """All runs, by project, domain and name."""

    def __init__(self, *, recovers: bool) -> None:
        """Recover what has succeeded, or as the open-source Flyte, execute everything again."""
        self._recovers = recovers
        self._runs: dict[tuple[str, str, str], Run] = {}

    def __iter__(self) -> Iterator[Run]:
        return iter(tuple(self._runs.values()))

    def add(self, run: Run) -> Run:
        """Store a new run, or return the existing one with its name."""
        return self._runs.setdefault(key_of(run.id), run)

    def recovered(self, run: Run, name: str) -> Action | None:
        """Return the action to take over, if the run recovers another in which it succeeded."""
        relation = run.spec.relation
        if not self._recovers or relation.relation_type != common_run_pb2.RELATION_TYPE_RECOVER:
            return None
        source = self._runs.get(key_of(relation.related_to))
        action = source.actions.get(name) if source else None
        return action if action is not None and action.phase in SUCCESSFUL else None

    def delete_pods(self) -> None:
        """Delete the pods that have ended."""
        for action in (action for run in self for action in run.actions.values()):
            action.pods = {number: pod for number, pod in action.pods.items() if pod.running}

    def clear(self) -> None:
        self._runs.clear()

    def get(self, id_: identifier_pb2.RunIdentifier) -> Run:
        """Return the run, or raise NOT_FOUND."""
        run = self._runs.get(key_of(id_))
        return found(run, f"run {id_.name} in {id_.project}/{id_.domain}")

    def action(self, id_: identifier_pb2.ActionIdentifier) -> Action:
        """Return the action, or raise NOT_FOUND."""
        action = self.get(id_.run).actions.get(id_.name)
        return found(action, f"action {id_.name} of run {id_.run.name}")
