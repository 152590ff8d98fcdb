"""Models of what the SDK returns. Their texts are other people's: never show one as HTML."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote, urlencode

from fastapi import Request
from flyte import remote
from flyte.models import ActionPhase
from flyteidl2.core.catalog_pb2 import CACHE_HIT
from flyteidl2.core.types_pb2 import BOOLEAN, FLOAT, INTEGER, STRING
from flyteidl2.workflow.run_definition_pb2 import ActionDetails
from pydantic import AfterValidator, BaseModel, Field

from .limits import limits
from .values.outputs import to_json

WAITING = {ActionPhase.QUEUED, ActionPhase.WAITING_FOR_RESOURCES, ActionPhase.INITIALIZING}
"""Phases in which an action waits for the cluster."""
FAILED = {ActionPhase.FAILED, ActionPhase.TIMED_OUT}
"""Phases of an action that has ended with an error."""
HAS_OUTPUTS = {ActionPhase.SUCCEEDED, ActionPhase.RECOVERED}
"""Phases of an action that has ended well."""


def _cut(text: str) -> str:
    if len(text) <= limits().max_text_chars:
        return text
    end = f"… (cut off, {len(text):,} characters)"
    return text[: limits().max_text_chars - len(end)] + end


TruncatedText = Annotated[str, AfterValidator(_cut)]
"""A text of at most ``Limits.max_text_chars``. A longer one is cut off, and its end says so."""


def location(request: Request, *path: str, **query: str) -> str:
    """Return where something is in this API, as the client sees it, for a Location header."""
    prefix = request.scope["root_path"]  # of a proxy
    return "/".join([prefix, *(quote(part, safe="") for part in path)]) + f"?{urlencode(query)}"


def time_of(timestamp: Any) -> datetime | None:
    """Return a time of Flyte's; None for 0 (a missing one), before the year 1, and after 9999."""
    with suppress(ValueError):
        return timestamp.ToDatetime(UTC) if timestamp.seconds else None
    return None


def phase_of(raw: int) -> ActionPhase | None:
    """Return a phase; None if it is missing, or unknown to this version of the SDK."""
    with suppress(ValueError):
        return ActionPhase.from_protobuf(raw)
    return None


def attempts_of(details: ActionDetails) -> int:
    """Return the number of attempts; the status of a parent says 0."""
    last = details.attempts[-1:]  # in their order
    return max([details.status.attempts, *(attempt.attempt for attempt in last)])


class Caller(BaseModel):
    """A person, or an application with its own identity, as far as Flyte knows."""

    subject: TruncatedText | None = Field(default=None, examples=["00u1alice"])
    name: TruncatedText | None = Field(default=None, examples=["Alice Liddell"])
    email: TruncatedText | None = Field(default=None, examples=["alice@example.com"])
    anonymous: bool = Field(description="Everybody is, if Flyte is called in plaintext")
    sign_in: str | None = Field(description="Where to sign in as somebody else, if the app knows")
    sign_out: str | None = Field(description="Where to sign out, if the app knows")


class Identity(BaseModel):
    """Who did something: a person, or an application with its own identity."""

    subject: TruncatedText = Field(examples=["00u1alice"], description="Flyte's identifier")
    name: TruncatedText | None = Field(
        examples=["Alice Liddell"], description="Null if the token has no name"
    )

    @classmethod
    def of(cls, identity: Any) -> Self | None:
        """Convert an identity of Flyte's, such as ``executed_by``; None if there is none."""
        kind = identity.WhichOneof("principal")
        if kind not in {"user", "application"}:
            return None
        who = getattr(identity, kind)
        names = (who.spec.first_name, who.spec.last_name) if kind == "user" else (who.spec.name,)
        return cls(subject=who.id.subject, name=" ".join(filter(None, names)) or None)


Answer = bool | int | float | str
AnswerType = Literal["integer", "number", "string", "boolean"]
ANSWERS: dict[int, AnswerType]
ANSWERS = {INTEGER: "integer", FLOAT: "number", STRING: "string", BOOLEAN: "boolean"}


def is_answered(details: remote.ActionDetails) -> bool:
    """Tell whether Flyte has recorded an answer to a condition."""
    return bool(details.pb2.HasField("signal_info"))


def answer_of(details: remote.ActionDetails) -> Answer | None:
    """Return the answer that Flyte has recorded; None if it is no boolean, number or text."""
    output = details.pb2.signal_info.output
    if not output.scalar.HasField("primitive"):  # who answers may send anything
        return None
    value = to_json([("", output)])[""]
    return value if isinstance(value, Answer) else None


class Condition(BaseModel):
    """What a run asks people, and the answer. Show no buttons below a text that is cut off."""

    run: TruncatedText
    action: TruncatedText = Field(description="The name of its action")
    name: TruncatedText
    prompt: TruncatedText = Field(description="Other people's text: never show it as HTML")
    prompt_is_cut: bool = Field(description="Or the description is")
    description: TruncatedText | None
    type: AnswerType | None
    phase: ActionPhase | None
    asked_at: datetime | None
    answered_at: datetime | None
    answered_by: Identity | None = Field(description="Null also if Flyte does not know")
    value: bool | int | float | TruncatedText | None

    @classmethod
    def of(cls, details: remote.ActionDetails) -> Self:
        """Convert the details of a condition's action."""
        pb2, asked = details.pb2, details.pb2.condition
        return cls(
            run=details.run_name,
            action=details.name,
            name=asked.name,
            prompt=asked.prompt,
            prompt_is_cut=max(len(asked.prompt), len(asked.description)) > limits().max_text_chars,
            description=asked.description or None,
            type=ANSWERS.get(asked.type.simple),
            phase=phase_of(details.raw_phase),
            asked_at=time_of(pb2.status.start_time),
            answered_at=time_of(pb2.status.end_time) if is_answered(details) else None,
            answered_by=Identity.of(pb2.signal_info.signalled_by),
            value=answer_of(details),
        )


class Event(BaseModel):
    """What happened on the cluster to an action that waits for it."""

    message: TruncatedText = Field(examples=["Back-off pulling image"])
    last_at: datetime | None


class PhaseOfAttempt(BaseModel):
    """A phase that an attempt was in, or is in as long as it has no end."""

    attempt: int
    phase: ActionPhase | None
    started_at: datetime | None
    ended_at: datetime | None


class Action(BaseModel):
    """A part of a run, from its details: listings lack the names of tasks."""

    name: TruncatedText = Field(examples=["a0"])
    type: Literal["task", "trace", "condition"] | None
    title: TruncatedText | None = Field(examples=["greet"], description="A short name")
    task: TruncatedText | None = Field(description="The task's full name")
    parent: TruncatedText | None = Field(description="What started it; null for the root")
    group: TruncatedText | None
    phase: ActionPhase | None
    attempts: int = Field(description="The number of attempts so far")
    started_at: datetime | None
    ended_at: datetime | None
    error: TruncatedText | None = Field(description="Why it failed")
    abort_reason: TruncatedText | None = Field(description="Why it was aborted")
    cached: bool = Field(description="Whether its result comes from Flyte's cache")
    phases: list[PhaseOfAttempt] = Field(description="The latest phases of its attempts")
    events: list[Event] = Field(description="The cluster's last, if it waits")
    condition: Condition | None = Field(description="What it asks, if it is a condition")
    has_report: bool = Field(description="Whether it is of a task with `report=True`")

    @classmethod
    def of(cls, details: remote.ActionDetails) -> Self:
        """Convert the details of an action."""
        pb2, metadata, status = details.pb2, details.pb2.metadata, details.pb2.status
        title = metadata.task.short_name or metadata.trace.name or metadata.condition.name
        phase = phase_of(status.phase)
        return cls(
            name=details.name,
            type=metadata.WhichOneof("spec"),
            title=title or None,
            task=details.task_name or None,
            parent=metadata.parent or None,
            group=metadata.group or None,
            phase=phase,
            attempts=attempts_of(pb2),
            started_at=time_of(status.start_time),
            ended_at=time_of(status.end_time),
            error=pb2.error_info.message or None,
            abort_reason=pb2.abort_info.reason or None,
            cached=status.cache_status == CACHE_HIT,
            phases=_phases_of(pb2.attempts),
            events=_events_of(pb2.attempts) if phase in WAITING else [],
            condition=Condition.of(details) if pb2.HasField("condition") else None,
            has_report=pb2.task.task_template.metadata.generates_deck.value,
        )


def _phases_of(attempts: Sequence[Any]) -> list[PhaseOfAttempt]:
    pairs = [
        (attempt, phase) for attempt in attempts[-20:] for phase in attempt.phase_transitions[-20:]
    ]
    return [
        PhaseOfAttempt(
            attempt=attempt.attempt,
            phase=phase_of(phase.phase),
            started_at=time_of(phase.start_time),
            ended_at=time_of(phase.end_time),
        )
        for attempt, phase in pairs[-20:]
    ]


def _events_of(attempts: Sequence[Any]) -> list[Event]:
    """Return the last five, each once: Flyte repeats some. Those before a restart say its cause."""
    last: dict[str, Any] = {}
    for event in (event for attempt in attempts[-2:] for event in attempt.cluster_events[-50:]):
        message = event.message or event.reason
        last.pop(message, None)  # the last comes last
        last[message] = event.occurred_at
    return [Event(message=text, last_at=time_of(at)) for text, at in [*last.items()][-5:]]
