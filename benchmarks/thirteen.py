"""Task for ``viewers.py``: the run has 13 actions and does not end."""

import asyncio

import flyte

env = flyte.TaskEnvironment(name="viewers")


@env.task
async def part(number: int) -> int:
    """Return a number."""
    return number


@env.task
async def whole(parts: int) -> None:
    """Run all parts, then wait without end."""
    for number in range(parts):
        await part(number)
    await asyncio.sleep(100_000)
