"""Tasks for the conformance cases."""

import asyncio
import os
from typing import Any

import flyte

env = flyte.TaskEnvironment("conformance", image=os.environ.get("CONFORMANCE_IMAGE", "auto"))


@env.task
async def succeeds(x: int) -> int:
    print("hello", flush=True)
    return x


@env.task
async def endless() -> None:
    await asyncio.sleep(100_000)


@env.task(retries=2)
async def fails(x: int) -> int:
    context: Any = flyte.ctx()
    print(f"attempt {context.attempt_number + 1}", flush=True)
    raise ValueError("on purpose")


@env.task(report=True)
async def family(x: int) -> None:
    """Start a child action in a group, write a report, and fail if ``x`` is 0."""
    with flyte.group("pair"):
        await succeeds(x)
    await flyte.report.replace.aio("<p>drawn</p>", do_flush=True)
    if x == 0:
        raise ValueError("on purpose")


@env.task
async def asks(kind: str, seconds: float) -> str:
    """Create a condition of this type; ``seconds`` is the timeout, or 0 for none."""
    types: dict[str, Any] = {"bool": bool, "float": float}
    condition = await flyte.new_condition.aio(
        "approval",
        prompt=f"# A {kind}?",
        prompt_type="markdown",
        data_type=types[kind],
        timeout=seconds or None,
    )
    try:
        return repr(await condition.wait.aio())
    except flyte.errors.ConditionTimedoutError:
        return "timed out"


@env.task
async def asks_and_fails() -> None:
    """Create a condition, and fail without waiting for an answer."""
    condition: Any = await flyte.new_condition.aio("approval", prompt="?", data_type=bool)
    asking = asyncio.ensure_future(condition.wait.aio())
    await asyncio.wait({asking}, timeout=2)
    raise ValueError("on purpose")
