"""Tasks for the page to show: one for each kind of input and output, and for failures."""

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from pathlib import Path

import flyte
import flyte.report
from flyte.io import DataFrame, File

env = flyte.TaskEnvironment(name="page-tests")


class Colour(Enum):
    RED = "red"
    GREEN = "green"


@dataclass
class Person:
    name: str
    age: int
    born: date


@env.task
async def greet(name: str, excited: bool = False) -> str:
    """Greet someone by name.

    Args:
        name: The name to greet.
        excited: Whether the greeting ends with an exclamation mark.
    """
    print(f"greeting {name}")
    return f"Hello, {name}{'!' if excited else '.'}"


@env.task
async def count(to: int = 5, pause: float = 0.2) -> int:
    if to < 1:
        raise ValueError(f"cannot count to {to}")
    for number in range(1, to + 1):
        print(f"{number} of {to}", flush=True)
        await asyncio.sleep(pause)
    return to


@env.task
async def echo(text: str, fail: bool = False) -> str:
    print(text)
    if fail:
        raise ValueError(text)
    return text


@env.task(report=True)
async def survey(
    *,
    big: int,
    at: datetime,
    day: date,
    pause: timedelta,
    names: list[str],
    weights: dict[str, float],
    person: Person,
    colour: Colour = Colour.GREEN,
    note: str | None = None,
    source: File | None = None,
    since: datetime = datetime(1970, 1, 1, tzinfo=UTC),
    either: float | str = 1.5,
) -> tuple[str, dict[str, float], list[Person], Person, datetime]:
    """Take one input of each kind, and return a description of them, and some of them."""
    await flyte.report.replace.aio("<h1>A survey</h1>", do_flush=True)
    values = [big + 1, at.isoformat(), day, pause.total_seconds(), names, weights, person.name]
    values += [person.age, person.born, colour.value, note, source and source.path, since]
    values.append(repr(either))  # a text would have quotes
    text = await echo(" ".join(map(str, values)))
    return text, weights, [person], person, at


@env.task
async def report() -> tuple[list[dict[str, str]], File]:
    towns = [{"town": "Berlin", "river": "Spree"}, {"town": "Paris", "river": "Seine"}]
    return towns, File(path="s3://bucket/towns.csv")


@env.task
async def count_lines(text: File, table: DataFrame) -> tuple[int, str, File]:
    """Count lines.

    Args:
        text: What has the lines.
    """
    async with text.open() as opened:
        lines = bytes(await opened.read()).count(b"\n")
    return lines, table.format or "none", text


@env.task
async def publish(text: str) -> str:
    approval = await flyte.new_condition.aio("approval", prompt=f"Publish {text!r}?")
    return f"{'published' if await approval.wait.aio() else 'rejected'}: {text}"


@env.task
async def ask() -> int:
    total = 0
    for name, prompt in (("one", "How many?"), ("another", "How many more?")):
        condition = await flyte.new_condition.aio(name, prompt=prompt, data_type=int)
        total += int(await condition.wait.aio())
    return total


@env.task(retries=1)
def child(label: str, folder: str) -> str:
    """Write two lines, the second once there is a file; b fails the first time."""
    print(f"{label} begins", flush=True)
    failed = Path(folder) / "failed"
    if label == "b" and not failed.exists():
        failed.touch()
        raise ValueError("b fails once")
    while not (Path(folder) / "gate").exists():
        time.sleep(0.05)
    print(f"{label} ends", flush=True)
    return label


@flyte.trace
async def note(number: int) -> int:
    return number


@env.task(report=True)
async def family(folder: str) -> list[str]:
    """Make 13 actions: the root, eight traces, a condition, and three children; one fails once."""
    await flyte.report.replace.aio("<h1>A family of three</h1>", do_flush=True)
    for number in range(8):
        await note(number)
    condition = await flyte.new_condition.aio("permission", prompt="May they end?")
    with flyte.group("children"):
        children = asyncio.gather(*(child.aio(label, folder) for label in "abc"))
        assert await condition.wait.aio()
        return list(await children)
