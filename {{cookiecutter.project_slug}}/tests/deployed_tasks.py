"""Tasks for the tests, so that you can change or delete the tasks in ``app/tasks.py``.

``conftest.py`` deploys them to the local Flyte server. To deploy them to a real Flyte, run
``flyte deploy tests/deployed_tasks.py env``.
"""

import asyncio

import flyte
import flyte.report
from flyte.io import File

env = flyte.TaskEnvironment(name="{{ cookiecutter.project_slug }}-tests")


@env.task
async def greet(name: str, excited: bool = False) -> str:
    """Greet a person by name."""
    print(f"greeting {name}")
    return f"Hello, {name}{'!' if excited else '.'}"


@env.task
async def count(to: int = 5) -> int:
    """Print five numbers per second; fail if ``to`` is less than 1."""
    if to < 1:
        raise ValueError(f"cannot count to {to}")
    for number in range(1, to + 1):
        print(f"{number} of {to}", flush=True)
        await asyncio.sleep(0.2)
    return to


@env.task
async def count_lines(text: File) -> int:
    """Count the lines of a file."""
    async with text.open() as opened:
        return bytes(await opened.read()).count(b"\n")


@env.task
async def ask(prompt: str) -> bool:
    """Create a condition, and return the answer."""
    approval = await flyte.new_condition.aio("approval", prompt=prompt)
    return bool(await approval.wait.aio())


@env.task(report=True)
async def draw(name: str = "Ada") -> str:
    """Write a report, and return the name."""
    await flyte.report.replace.aio("<p>drawn</p>", do_flush=True)
    return name
