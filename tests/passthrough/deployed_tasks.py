"""The tasks that the tests run."""

import asyncio
import dataclasses
import enum
from datetime import date, datetime, timedelta

import flyte
from flyte.io import File
from pydantic import BaseModel

env = flyte.TaskEnvironment(name="tests")


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Place(BaseModel):
    name: str
    since: int = 2020


@dataclasses.dataclass
class Size:
    width: int
    height: int


@env.task
async def greet(name: str, excited: bool = False) -> str:
    """Greet someone by name."""
    print(f"greeting {name}")
    return f"Hello, {name}{'!' if excited else '.'}"


@env.task
async def count(to: int = 5) -> int:
    """Print numbers, and fail if there is nothing to count."""
    if to < 1:
        raise ValueError(f"cannot count to {to}")
    for number in range(1, to + 1):
        print(f"{number} of {to}", flush=True)
        await asyncio.sleep(0.2)
    return to


@env.task
async def describe(  # noqa: PLR0917
    moment: datetime,
    day: date,
    length: timedelta,
    colour: Colour,
    place: Place,
    size: Size,
    file: File,
    moments: list[datetime],
    places: dict[str, Place],
    sizes: list[Size],
    files: list[File],
) -> str:
    """Take a value of every kind that an app may create, and read it."""
    content = []
    for each in (file, *files):
        with each.open_sync("rb") as opened:
            content.append(bytes(opened.read()))
    return f"{moment} {day} {length} {colour} {place} {size} {moments} {places} {sizes} {content}"


@env.task
async def shout(lines: int = 24_000) -> None:
    """Print 1 kB on each of many lines."""
    for _ in range(lines):
        print("x" * 1000)
