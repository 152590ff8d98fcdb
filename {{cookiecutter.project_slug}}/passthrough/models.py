"""Models of responses, which are converted from the SDK's objects.

Texts such as names and errors come from users of Flyte. Never show these texts as HTML.
"""

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
"""Phases of an action that has ended with an error.

Example:
    >>> ActionPhase.TIMED_OUT in FAILED, ActionPhase.ABORTED in FAILED
    (True, False)
"""
HAS_OUTPUTS = {ActionPhase.SUCCEEDED, ActionPhase.RECOVERED}
"""Phases of an action that has outputs.

Example:
    >>> phase_of(ActionPhase.SUCCEEDED.to_protobuf_value()) in HAS_OUTPUTS
    True
"""


def _truncate(text: str) -> str:
    if len(text) <= limits().max_text_chars:
        return text
    end = f"… (cut off, {len(text):,} characters)"
    return text[: limits().max_text_chars - len(end)] + end


TruncatedText = Annotated[str, AfterValidator(_truncate)]
"""A text of at most `Limits.max_text_chars` characters. A truncated text ends with a note.

Example:
    >>> class Note(BaseModel):
    ...     text: TruncatedText
    >>> Note(text="x" * 30_000).text[-31:]
    'x… (cut off, 30,000 characters)'
"""


def location(request: Request, *path: str, **query: str) -> str:
    """Return the path of a resource of this API, for a Location header.

    Args:
        request: The current request. The result starts with its ``root_path``, which is the prefix
            of a reverse proxy.
        path: The segments of the path, which this function escapes.
        query: The parameters of the query, such as the project and the domain of a run.

    Returns:
        The path with the query, as the client must send it.

    Example:
        @router.post("/greetings", status_code=201)
        async def greet(request: Request, response: Response) -> None:
            task = remote.Task.get("tests.greet", auto_version="latest")
            run = await flyte.run.aio(task, name="Ada")
            response.headers["Location"] = location(request, "runs", run.name)
    """
    segments = [request.scope["root_path"], *(quote(segment, safe="") for segment in path)]
    return f"{'/'.join(segments)}?{urlencode(query)}"


def time_of(timestamp: Any) -> datetime | None:
    """Convert a time of Flyte to UTC.

    Args:
        timestamp: A protobuf timestamp, such as ``run.pb2.action.status.start_time``.

    Returns:
        The time; None if the timestamp is missing (0), before the year 1 or after the year 9999.

    Example:
        @router.get("/runs/{name}/started")
        async def started(run: RunDep) -> datetime | None:
            return time_of(run.pb2.action.status.start_time)
    """
    with suppress(ValueError):
        return timestamp.ToDatetime(UTC) if timestamp.seconds else None
    return None


def phase_of(raw: int) -> ActionPhase | None:
    """Convert a phase of Flyte.

    Args:
        raw: The phase as a value of the protobuf enum, such as ``run.raw_phase``.

    Returns:
        The phase; None if it is missing, or unknown to this version of the SDK. For an unknown
        phase, ``run.phase`` of the SDK raises an error.

    Example:
        >>> phase_of(ActionPhase.RUNNING.to_protobuf_value())
        <ActionPhase.RUNNING: 'running'>
        >>> phase_of(99) is None
        True
    """
    with suppress(ValueError):
        return ActionPhase.from_protobuf(raw)
    return None


def attempts_of(details: ActionDetails) -> int:
    """Return the number of attempts of an action.

    The status of an action that has children lacks this number, so also read the last attempt.
    """
    last = details.attempts[-1:]
    return max([details.status.attempts, *(attempt.attempt for attempt in last)])


class Caller(BaseModel, use_attribute_docstrings=True):
    """The caller of a request, who is a user or an application."""

    subject: TruncatedText | None = Field(default=None, examples=["00u1alice"])
    """Flyte's identifier of the caller; null if Flyte does not know the caller."""
    name: TruncatedText | None = Field(default=None, examples=["Alice Liddell"])
    """Full name of the caller."""
    email: TruncatedText | None = Field(default=None, examples=["alice@example.com"])
    """Email address of the caller."""
    anonymous: bool
    """Whether all callers are anonymous, because Flyte without TLS receives no credentials."""
    sign_in: str | None
    """URL to sign in as another user; null if the app has no such URL."""
    sign_out: str | None
    """URL to sign out; null if the app has no such URL."""


class Identity(BaseModel, use_attribute_docstrings=True):
    """A user or an application that has started a run or answered a condition."""

    subject: TruncatedText = Field(examples=["00u1alice"])
    """Flyte's identifier of the user or application."""
    name: TruncatedText | None = Field(examples=["Alice Liddell"])
    """Name of the user or application; null if the token has no name."""

    @classmethod
    def of(cls, identity: Any) -> Self | None:
        """Convert an identity of Flyte.

        Args:
            identity: The protobuf message, such as ``run.pb2.action.metadata.executed_by``.

        Returns:
            The identity; None if the message contains neither a user nor an application.

        Example:
            @router.get("/runs/{name}/starter")
            async def starter(run: RunDep) -> Identity | None:
                return Identity.of(run.pb2.action.metadata.executed_by)
        """
        kind = identity.WhichOneof("principal")
        if kind not in {"user", "application"}:
            return None
        caller = getattr(identity, kind)
        spec = caller.spec
        names = (spec.first_name, spec.last_name) if kind == "user" else (spec.name,)
        return cls(subject=caller.id.subject, name=" ".join(filter(None, names)) or None)


Answer = bool | int | float | str
AnswerType = Literal["integer", "number", "string", "boolean"]
ANSWER_TYPES: dict[type, AnswerType]
ANSWER_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string"}
"""Maps the Python type of an answer to the type of the condition.

Example:
    >>> ANSWER_TYPES[type(True)], ANSWER_TYPES[type(1.5)]
    ('boolean', 'number')
"""
_ANSWER_TYPES = dict(zip((BOOLEAN, INTEGER, FLOAT, STRING), ANSWER_TYPES.values(), strict=True))


def is_answered(details: remote.ActionDetails) -> bool:
    """Return whether Flyte has recorded the answer to a condition.

    Args:
        details: The details of the condition's action, from `fetch_condition`.

    Returns:
        True if Flyte has recorded the answer, which takes a moment (see `wait_for_answer`).

    Example:
        @router.get("/runs/{name}/questions/{action}/answered")
        async def answered(name: str, action: str) -> bool:
            return is_answered(await fetch_condition(name, action))
    """
    return bool(details.pb2.HasField("signal_info"))


def answer_of(details: remote.ActionDetails) -> Answer | None:
    """Return the recorded answer to a condition.

    Args:
        details: The details of the condition's action, from `fetch_condition`.

    Returns:
        The answer; None if Flyte has no answer, or an answer that is no boolean, number or text.

    Example:
        @router.get("/runs/{name}/questions/{action}/answer")
        async def answer(name: str, action: str) -> bool | int | float | str | None:
            return answer_of(await fetch_condition(name, action))
    """
    output = details.pb2.signal_info.output
    # Flyte also accepts answers that are no booleans, numbers or texts.
    if not output.scalar.HasField("primitive"):
        return None
    value = to_json([("", output)])[""]
    return value if isinstance(value, Answer) else None


class Condition(BaseModel, use_attribute_docstrings=True):
    """A condition, which is a question that a run asks. Flyte also calls a condition a signal."""

    run: TruncatedText
    """Name of the run that asks the question."""
    action: TruncatedText
    """Name of the condition's action, which is needed to answer the condition."""
    name: TruncatedText
    """Name of the condition in the task's code."""
    prompt: TruncatedText
    """The question, a text by the author of the task. Never show this text as HTML."""
    prompt_truncated: bool
    """Whether the prompt or the description is truncated. Do not answer a truncated question."""
    description: TruncatedText | None
    """Further text about the question."""
    type: AnswerType | None
    """Type that the answer must have; null if the app does not know the type."""
    phase: ActionPhase | None
    """Phase of the condition; `paused` while the condition waits for an answer."""
    asked_at: datetime | None
    """Time when the run asked the question."""
    answered_at: datetime | None
    """Time of the answer; null if there is no answer."""
    answered_by: Identity | None
    """The user or application that answered; null if Flyte does not know the user."""
    value: bool | int | float | TruncatedText | None
    """The recorded answer; null if there is no answer."""

    @classmethod
    def of(cls, details: remote.ActionDetails) -> Self:
        """Convert the details of a condition's action.

        Args:
            details: The details, from `fetch_condition` or `fetch_details`.

        Returns:
            The condition, with the answer if there is one.

        Example:
            @router.get("/runs/{name}/questions/{action}")
            async def read_question(name: str, action: str) -> Condition:
                return Condition.of(await fetch_condition(name, action))
        """
        pb2, condition, max_chars = details.pb2, details.pb2.condition, limits().max_text_chars
        return cls(
            run=details.run_name,
            action=details.name,
            name=condition.name,
            prompt=condition.prompt,
            prompt_truncated=max(map(len, (condition.prompt, condition.description))) > max_chars,
            description=condition.description or None,
            type=_ANSWER_TYPES.get(condition.type.simple),
            phase=phase_of(details.raw_phase),
            asked_at=time_of(pb2.status.start_time),
            answered_at=time_of(pb2.status.end_time) if is_answered(details) else None,
            answered_by=Identity.of(pb2.signal_info.signalled_by),
            value=answer_of(details),
        )


class Event(BaseModel, use_attribute_docstrings=True):
    """An event on the cluster, such as a pod that cannot start."""

    message: TruncatedText = Field(examples=["Back-off pulling image"])
    """Text of the event."""
    last_at: datetime | None
    """Time when the event happened last."""


class PhaseOfAttempt(BaseModel, use_attribute_docstrings=True):
    """A period in which an attempt of an action was in one phase."""

    attempt: int
    """Number of the attempt, from 1."""
    phase: ActionPhase | None
    """Phase of the attempt; null if the app does not know the phase."""
    started_at: datetime | None
    """Time when the phase began."""
    ended_at: datetime | None
    """Time when the phase ended; null if it has not ended."""


class Action(BaseModel, use_attribute_docstrings=True):
    """An action of a run: a task, a trace or a condition."""

    name: TruncatedText = Field(examples=["a0"])
    """Name of the action; the root action is `a0`."""
    type: Literal["task", "trace", "condition"] | None
    """Kind of the action."""
    title: TruncatedText | None = Field(examples=["greet"])
    """Short name to show, such as the function's name."""
    task: TruncatedText | None
    """Full name of the task; null if the action is not a task."""
    parent: TruncatedText | None
    """Name of the parent action, which started this action; null for the root action."""
    group: TruncatedText | None
    """Name of the action's group; null if the action has no group."""
    phase: ActionPhase | None
    """Phase of the action; null if the app does not know the phase."""
    attempts: int
    """Number of attempts so far."""
    started_at: datetime | None
    """Time when the action started."""
    ended_at: datetime | None
    """Time when the action ended; null if it has not ended."""
    error: TruncatedText | None
    """Error message, if the action has failed."""
    abort_reason: TruncatedText | None
    """Reason that a caller gave when aborting the action."""
    cached: bool
    """Whether the result comes from Flyte's cache."""
    phases: list[PhaseOfAttempt]
    """Up to 20 latest phases of the action's attempts, oldest first."""
    events: list[Event]
    """Up to 5 latest events of the cluster; empty unless the action waits for the cluster."""
    condition: Condition | None
    """The question, if the action is a condition; otherwise null."""
    has_report: bool
    """Whether the task creates a report (`report=True`), which `GET /runs/{name}/report` opens."""

    @classmethod
    def of(cls, details: remote.ActionDetails) -> Self:
        """Convert the details of an action.

        Args:
            details: The details, for example from `fetch_details`. Details from a list have no task
                name.

        Returns:
            The action.

        Example:
            @router.get("/runs/{name}/root")
            async def root(name: str) -> Action:
                details = await remote.RunDetails.get.aio(name=name)
                return Action.of(details.action_details)
        """
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
    """Return the last five different events of the last two attempts.

    Flyte repeats events. The previous attempt often has the event that explains the new attempt.
    """
    last: dict[str, Any] = {}  # maps a message to the time when it last occurred, oldest first
    for event in (event for attempt in attempts[-2:] for event in attempt.cluster_events[-50:]):
        message = event.message or event.reason
        last.pop(message, None)  # a repeated message moves to the end
        last[message] = event.occurred_at
    latest = [*last.items()][-5:]
    return [Event(message=message, last_at=time_of(time)) for message, time in latest]
