"""Fake execution of tasks: the local Flyte server calls their functions instead of processes.

The API returns the same data about a run, and saves the start of a process (most of a second).
"""

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from flyte.types import TypeEngine
from flyteidl2.actions.actions_service_pb2 import EnqueueRequest
from flyteidl2.core.execution_pb2 import ContainerError, ErrorDocument
from flyteidl2.task import common_pb2

from local_flyte import LocalFlyte, execution
from local_flyte.processes import Containers
from local_flyte.runs import ActionsService

from . import flyte_tasks
from .support import run_of

process = ContextVar["FakeProcess"]("process")
FAKED = {"greet", "split", "count", "ask", "stumble"}
"""Tasks without a process. All other tasks call the SDK, which needs a process."""


class FakeProcess:
    """Replaces the process of a task."""

    def __init__(
        self, local_flyte: LocalFlyte, variables: Mapping[str, str], output: Callable[[str], None]
    ) -> None:
        self.attempt = int(variables["FLYTE_ATTEMPT_NUMBER"])
        self._local_flyte, self._variables, self._output = local_flyte, variables, output

    def print(self, line: str) -> None:
        self._output(f"{line}\n")

    async def answer_to(self, name: str, prompt: str, kind: type) -> object:
        """Create a condition as the SDK does, and wait for the answer."""
        services, variables = self._local_flyte._services, self._variables
        conditions = execution.Conditions(services.faults)
        actions = ActionsService(services.runs, services.executor, conditions)
        run = run_of(self._local_flyte, variables["RUN_NAME"])
        asking = EnqueueRequest()
        asking.action.action_id.run.CopyFrom(run.id)
        asking.action.action_id.name = secrets.token_hex(10)
        asking.action.parent_action_name = variables["ACTION_NAME"]
        asking.action.condition.name, asking.action.condition.prompt = name, prompt
        asking.action.condition.type.CopyFrom(TypeEngine.to_literal_type(kind))
        await actions.enqueue(asking, None)  # type: ignore[arg-type]
        asked = run.actions[asking.action.action_id.name]
        while asked.answer is None:
            await run.changed.wait()
        return native(asked.answer)


def native(literal: Any) -> Any:
    if literal.HasField("collection"):
        return [native(item) for item in literal.collection.literals]
    primitive = literal.scalar.primitive
    return getattr(primitive, primitive.WhichOneof("value"))


async def call(function: Any, inputs: bytes, results: Path) -> int:
    """Call the function of a task, and write what it returns or raises, as ``a0`` does."""
    literals = common_pb2.Inputs.FromString(inputs).literals
    try:
        returned = await function.func(**{item.name: native(item.value) for item in literals})
    except Exception as error:  # noqa: BLE001 - whatever the task raises
        failure = ContainerError(message=repr(error), kind="RECOVERABLE", origin="USER")
        (results / "error.pb").write_bytes(ErrorDocument(error=failure).SerializeToString())
        return 1
    kinds, outputs = function.native_interface.outputs, common_pb2.Outputs()
    values = returned if len(kinds) > 1 else [returned] * len(kinds)
    for value, (name, kind) in zip(values, kinds.items(), strict=True):
        output = await TypeEngine.to_literal(value, kind, TypeEngine.to_literal_type(kind))
        outputs.literals.add(name=name, value=output)
    (results / "outputs.pb").write_bytes(outputs.SerializeToString())
    return 0


@contextmanager
def fake_execution(local_flyte: LocalFlyte) -> Iterator[None]:
    """Run tasks without processes in the block, and record answers to conditions at once."""
    real_run = Containers.run

    async def run(containers: Containers, command: Sequence[str], **options: Any) -> int:
        if command[-1] not in FAKED:
            return await real_run(containers, command, **options)
        fake = FakeProcess(local_flyte, options["environment"], options["output"])
        process.set(fake)
        options["started"]()
        files = dict(pairwise(command))
        inputs = Path(files["--inputs"].removeprefix("file://")).read_bytes()  # noqa: ASYNC240
        (results := Path(files["--outputs-path"])).mkdir(parents=True)
        return await call(getattr(flyte_tasks, command[-1]), inputs, results)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Containers, "run", run)
        patch.setattr(flyte_tasks, "process", process.get)
        patch.setattr(execution, "RECORD_LAG_SECONDS", 0)
        yield
