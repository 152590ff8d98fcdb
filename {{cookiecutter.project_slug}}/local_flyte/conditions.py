"""Conditions: actions that wait for a person's answer. They have no process, and no attempts."""

import asyncio

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyteidl2.common import phase_pb2
from flyteidl2.core import literals_pb2, types_pb2
from flyteidl2.workflow import run_service_pb2

from .access import Faults, invalid
from .actions import Action
from .people import Person

RECORD_LAG_SECONDS = 0.5
"""The time between an answer and its record: the asking task gets the answer at once."""
RECORDING = "RecordAnswer"
"""What hangs, in place of a method, while answers are not recorded."""

_PAUSED = phase_pb2.ACTION_PHASE_PAUSED
_KINDS = {
    "bool_value": ("boolean", types_pb2.BOOLEAN),
    "int_value": ("integer", types_pb2.INTEGER),
    "float_value": ("float_value", types_pb2.FLOAT),
    "string_value": ("string_value", types_pb2.STRING),
}
"""The field of a primitive value, and the type, by the field of the payload in a request."""


class Conditions:
    """Pauses actions until they are answered or time out."""

    def __init__(self, faults: Faults, *, records_names: bool) -> None:
        """Pause actions of a Flyte that records who answers by name, or by subject only."""
        self._faults = faults
        self._records_names = records_names
        self._recording = set[asyncio.Task[None]]()

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
        """Answer a condition as this person; the same answer may be given again.

        Raises:
            ConnectError: FAILED_PRECONDITION, if it is no condition, has ended, or has another
                answer; INVALID_ARGUMENT for a value of another type.
        """
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
                    signalled_by = action.details.signal_info.signalled_by
                    signalled_by.CopyFrom(someone.identity)
                    if not self._records_names:
                        signalled_by.user.ClearField("spec")
                action.set_status(phase_pb2.ACTION_PHASE_SUCCEEDED)

        action.answer = answer
        action.changed.fire()
        self._recording.add(recording := asyncio.create_task(record()))
        recording.add_done_callback(self._recording.discard)
