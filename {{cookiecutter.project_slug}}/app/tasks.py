"""Sample tasks, registered together with the app by ``flyte deploy``. Replace them with your own.

The app never calls these functions: it asks Flyte, as the caller, to run a task by its name. So the
tasks that your users run can also be in another project.
"""

import asyncio

import flyte

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
    """Print one number a second, so that there is a run to watch.

    Args:
        to: The last number, at least 1.

    Returns:
        The sum of the numbers counted.

    Raises:
        ValueError: If ``to`` is less than 1.
    """
    if to < 1:
        raise ValueError(f"cannot count to {to}: give a number of at least 1")
    for number in range(1, to + 1):
        print(f"{number} of {to}", flush=True)
        await asyncio.sleep(1)
    return to * (to + 1) // 2
