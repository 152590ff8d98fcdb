"""The task whose runs are asked for: it takes, says, asks and returns something of each kind."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

import flyte
import flyte.report

env = flyte.TaskEnvironment(name="inflate")


class Colour(Enum):
    RED = "red"
    GREEN = "green"


@dataclass
class Person:
    name: str
    age: int


@env.task
async def child(text: str) -> str:
    print(text)
    return text


@env.task(report=True)
async def everything(
    *,
    text: str,
    number: int,
    share: float,
    at: datetime,
    pause: timedelta,
    names: list[str],
    weights: dict[str, float],
    person: Person,
    either: int | str,
    colour: Colour = Colour.GREEN,
    more: list[dict[str, int]] | None = None,
) -> tuple[dict[str, float], list[Person], Person, int | str, datetime]:
    """Take and return values of all kinds."""
    await flyte.report.replace.aio("<h1>Everything</h1>", do_flush=True)
    await child(text)
    return weights, [person], person, either, at


@env.task
async def ask(prompt: str) -> bool:
    """Ask something, and return the answer."""
    question = await flyte.new_condition.aio("question", prompt=prompt)
    return bool(await question.wait.aio())
