"""A task whose runs end soon: event streams of a run that waits for something would not end."""

import flyte

env = flyte.TaskEnvironment(name="contract")


@env.task
async def greet(name: str, excited: bool = False) -> str:
    """Greet someone by name."""
    return f"Hello, {name}{'!' if excited else '.'}"
