"""Runs and the actions they are made of: what the local Flyte remembers about executions."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyteidl2.common import identifier_pb2, phase_pb2
from flyteidl2.core import execution_pb2
from flyteidl2.logs.dataplane import payload_pb2
from flyteidl2.task import run_pb2
from flyteidl2.workflow import run_definition_pb2
from google.protobuf.timestamp_pb2 import Timestamp

from .people import Person

ROOT = "a0"
"""The name of the action a run begins with, as on a Flyte cluster."""

TERMINAL = {
    phase_pb2.ACTION_PHASE_SUCCEEDED,
    phase_pb2.ACTION_PHASE_FAILED,
    phase_pb2.ACTION_PHASE_ABORTED,
    phase_pb2.ACTION_PHASE_TIMED_OUT,
}


def now() -> Timestamp:
    """Return the present as protobuf has it."""
    timestamp = Timestamp()
    timestamp.GetCurrentTime()
    return timestamp


class Signal:
    """Something that happens again and again, and that many may wait for."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def fire(self) -> None:
        """Wake everyone who waits."""
        self._next.set()
        self._next = asyncio.Event()

    async def wait(self) -> None:
        """Wait for the next time."""
        await self._next.wait()


@dataclass
class Action:
    """One execution of one task (or a trace, which is over when it is told of)."""

    details: run_definition_pb2.ActionDetails
    """All of its state, as the API shows it."""
    input_uri: str
    output_base: str
    """The folder of the run, where its actions have their outputs below."""
    changed: Signal
    """Fires when any action of the run changes."""
    error: execution_pb2.ExecutionError | None = None
    log: list[payload_pb2.LogLine] = field(default_factory=list)

    def __post_init__(self) -> None:
        attempt = self.details.attempts.add(attempt=1)
        attempt.start_time.CopyFrom(now())
        self.details.status.attempts = 1
        self.details.status.start_time.CopyFrom(attempt.start_time)
        self.enter(phase_pb2.ACTION_PHASE_QUEUED)

    @property
    def name(self) -> str:
        """Its name, unique within the run."""
        return self.details.id.name

    @property
    def phase(self) -> phase_pb2.ActionPhase:
        """Where it is in its life."""
        return self.details.status.phase

    @property
    def done(self) -> bool:
        """Whether it is over, for better or worse."""
        return self.phase in TERMINAL

    @property
    def created_at(self) -> datetime:
        """When it came."""
        created: datetime = self.details.status.start_time.ToDatetime(UTC)
        return created

    @property
    def outputs(self) -> Path:
        """The folder that ``a0`` writes the outputs, or the error, to."""
        return Path(self.output_base, self.name)

    @property
    def summary(self) -> run_definition_pb2.Action:
        """The action as lists show it."""
        return run_definition_pb2.Action(
            id=self.details.id, metadata=self.details.metadata, status=self.details.status
        )

    def enter(self, phase: phase_pb2.ActionPhase) -> None:
        """Go on to another phase, and tell those who watch."""
        moment = now()
        status, attempt = self.details.status, self.details.attempts[0]
        if attempt.phase_transitions:
            attempt.phase_transitions[-1].end_time.CopyFrom(moment)
        transition = attempt.phase_transitions.add(phase=phase)
        transition.start_time.CopyFrom(moment)
        status.phase = attempt.phase = phase
        attempt.logs_available = attempt.logs_available or phase == phase_pb2.ACTION_PHASE_RUNNING
        if phase in TERMINAL:
            transition.end_time.CopyFrom(moment)
            attempt.end_time.CopyFrom(moment)
            status.end_time.CopyFrom(moment)
            status.duration_ms = moment.ToMilliseconds() - status.start_time.ToMilliseconds()
        self.changed.fire()

    def fail(self, error: execution_pb2.ExecutionError) -> None:
        """End with an error."""
        self.error = error
        info = self.details.error_info
        user = error.kind == execution_pb2.ExecutionError.USER
        info.kind = info.KIND_USER if user else info.KIND_SYSTEM
        info.message = error.message
        if "code" in info.DESCRIPTOR.fields_by_name:  # newer SDKs only
            info.code = error.code
        self.details.attempts[0].error_info.CopyFrom(info)
        self.enter(phase_pb2.ACTION_PHASE_FAILED)

    def write_log(self, line: str) -> None:
        """Add a line, with its line break, to the log."""
        self.log.append(
            payload_pb2.LogLine(
                timestamp=now(), message=line, originator=payload_pb2.LogLineOriginator.USER
            )
        )
        self.changed.fire()


@dataclass
class Run:
    """A run: who started it, and its actions in the order in which they came."""

    id: identifier_pb2.RunIdentifier
    spec: run_pb2.RunSpec
    owner: Person
    actions: dict[str, Action] = field(default_factory=dict)
    changed: Signal = field(default_factory=Signal)

    @property
    def root(self) -> Action:
        """The action that the run began with."""
        return self.actions[ROOT]

    def children(self, parent: str) -> list[Action]:
        """Return the actions that the action of this name has started."""
        return [each for each in self.actions.values() if each.details.metadata.parent == parent]


class Runs:
    """All runs, by project, domain and name; never by organisation, which the SDK makes up."""

    def __init__(self) -> None:
        self._runs: dict[tuple[str, str, str], Run] = {}

    def __iter__(self) -> Iterator[Run]:
        return iter(tuple(self._runs.values()))

    def add(self, run: Run) -> None:
        """Keep a new run, or raise ALREADY_EXISTS."""
        key = (run.id.project, run.id.domain, run.id.name)
        if key in self._runs:
            raise ConnectError(Code.ALREADY_EXISTS, f"a run named {run.id.name} already exists")
        self._runs[key] = run

    def clear(self) -> None:
        """Forget all runs."""
        self._runs.clear()

    def get(self, id_: identifier_pb2.RunIdentifier) -> Run:
        """Return the run, or raise NOT_FOUND."""
        try:
            return self._runs[id_.project, id_.domain, id_.name]
        except KeyError:
            raise ConnectError(
                Code.NOT_FOUND, f"no run {id_.name} in {id_.project}/{id_.domain}"
            ) from None

    def action(self, id_: identifier_pb2.ActionIdentifier) -> Action:
        """Return the action, or raise NOT_FOUND."""
        try:
            return self.get(id_.run).actions[id_.name]
        except KeyError:
            raise ConnectError(
                Code.NOT_FOUND, f"run {id_.run.name} has no action {id_.name}"
            ) from None
