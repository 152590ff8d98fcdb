"""Sample tasks, which ``flyte deploy`` registers together with the app.

Replace the sample tasks with your own tasks.

The app never calls these functions. The app asks Flyte to run a task by name, as the caller.
"""

import asyncio

import flyte
import flyte.report
from flyte.io import File

from .image import image

task_env = flyte.TaskEnvironment(
    name="{{ cookiecutter.project_slug }}-tasks",
    image=image,
    resources=flyte.Resources(cpu=1, memory="500Mi"),
)


@task_env.task
async def greet(name: str, excited: bool = False) -> str:
    """Greet someone by name.

    Args:
        name: The name to greet.
        excited: Whether the greeting ends with an exclamation mark.
    """
    print(f"greeting {name}")
    return f"Hello, {name}{'!' if excited else '.'}"


@task_env.task
async def count(to: int = 5) -> int:
    """Print one number per second, and return the sum of the numbers."""
    if to < 1:
        raise ValueError(f"cannot count to {to}: give a number of at least 1")
    for number in range(1, to + 1):
        print(f"{number} of {to}", flush=True)
        await asyncio.sleep(1)
    return to * (to + 1) // 2


@task_env.task
async def publish(text: str) -> str:
    """Publish a text after a user has approved it."""
    approval = await flyte.new_condition.aio("approval", prompt=f"Publish this?\n\n{text}")
    approved = await approval.wait.aio()
    return f"{'published' if approved else 'rejected'}: {text}"


@task_env.task
async def words(text: File) -> int:
    """Count the words of a text file."""
    async with text.open() as opened:
        return len(bytes(await opened.read()).split())


@task_env.task(report=True)
async def chart(values: list[int] = [3, 5, 8]) -> int:  # noqa: B006 - Flyte copies it
    """Draw a bar chart in the report of the run, and return the sum of the values."""
    scale = 100 / max([1, *values])  # pixels
    bars = (
        f'<rect x="{50 * place}" y="{120 - value * scale}" width="40" height="{value * scale}" '
        f'fill="teal" /><text x="{50 * place + 12}" y="{112 - value * scale}">{value}</text>'
        for place, value in enumerate(values)
    )
    svg = f'<svg width="{50 * len(values)}" height="120">{"".join(bars)}</svg>'
    await flyte.report.replace.aio(svg, do_flush=True)
    return sum(values)
