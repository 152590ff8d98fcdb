"""Tasks of the tests. Most run without a process, as fake_execution.py describes."""

import asyncio
import datetime as dt
import enum
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import flyte
import flyte.report
from flyte.io import File
from pydantic import BaseModel, SecretStr

env = flyte.TaskEnvironment(name="tests")
UNPICKLED = Path(tempfile.gettempdir(), "a-gift-was-unpickled")


def process() -> Any:
    """Return the fake process of a task; fake_execution.py replaces this function."""
    raise NotImplementedError


Split = NamedTuple("Split", [("result", str), ("pb2", int)])  # noqa: UP014 # names its outputs


@env.task
async def split(text: str) -> Split:
    return Split(text[:1], len(text))


@env.task
async def greet(name: str, excited: bool = False) -> str:
    process().print(f"greeting {name}")
    return f"Hello, {name}{'!' if excited else '.'}"


@env.task
async def count(to: int = 5) -> int:
    """Print numbers, and fail if there is nothing to count."""
    if to < 1:
        raise ValueError(f"cannot count to {to}")
    for number in range(1, to + 1):
        process().print(f"{number} of {to}")
        await asyncio.sleep(0.05)
    return to


@env.task
async def ask(prompts: list[str], kind: str = "bool", fails_after: float = 0.0) -> str:
    """Ask all at once, and return the answers, or fail after some seconds."""
    type_ = {"bool": bool, "int": int, "float": float, "str": str}[kind]
    asked = (
        process().answer_to(f"question-{n}", prompt, type_) for n, prompt in enumerate(prompts)
    )
    return str(await asyncio.wait_for(asyncio.gather(*asked), fails_after or None))


def is_there(path: str) -> bool:
    return Path(path).exists()


@env.task(retries=1)
async def stumble(times: int, until: str = "") -> int:
    """Print, go on until there is a file of this name and attempt, and fail so many times."""
    here = process()
    for number in range(3):
        here.print(f"attempt {here.attempt}, line {number}")
    while until and not is_there(f"{until}-{here.attempt}"):
        here.print("waiting")
        await asyncio.sleep(0.05)
    if here.attempt < times:
        raise ValueError(f"attempt {here.attempt} stumbles")
    return int(here.attempt)


@env.task
async def family(broken: str, until: str = "") -> list[int]:
    """Run three children, of which one stumbles once and one as long as there is such a file."""
    with flyte.group("children"):
        done = await asyncio.gather(stumble(0, until), stumble(1, until))
        return [*done, await stumble(9 if is_there(broken) else 0)]


@env.task
async def crowd(size: int) -> list[str]:
    return list(await asyncio.gather(*(greet(str(number)) for number in range(size))))


@env.task(report=True)
async def draw(html: str) -> None:
    await flyte.report.replace.aio(html, do_flush=True)


class Gift:
    """Unpickling it runs a program."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (UNPICKLED,)


@env.task
async def gifts() -> tuple[Any, File, File, dict, float]:  # type: ignore[type-arg]
    """Return what an app must neither load nor open."""
    deep: dict[str, Any] = {}
    for _ in range(500):
        deep = {"deeper": deep}
    secret = File.from_existing_remote("file:///etc/passwd")
    inside = File.from_existing_remote("http://169.254.169.254/latest")
    return Gift(), secret, inside, deep, float("nan")


class Half(enum.Enum):
    HALF = 0.5
    MORE = 1.5


@dataclass
class Circle:
    size: int


@dataclass
class Square:
    size: float
    name: str = ""


@dataclass
class Label:
    name: str


@dataclass
class Drawing:
    width: float
    wait: dt.timedelta
    shape: Circle | Square
    texts: list[int] | list[str]


class Paper(BaseModel):
    half: Half
    height: float = 1.0
    day: dt.datetime | dt.date = dt.date(2024, 1, 2)
    secret: SecretStr = SecretStr("s3cret")


@env.task
async def unlock(paper: Paper = Paper(half=Half.HALF)) -> str:  # noqa: B008 - Flyte stores it
    """Return the secret of a model, of which Flyte stores stars for the default."""
    return paper.secret.get_secret_value()


@env.task
async def describe(
    drawing: Drawing, paper: Paper, numbers: dict[int, int], label: Square | Label
) -> str:
    """Return what has arrived."""
    return f"{drawing} {paper!r} {paper.secret.get_secret_value()} {numbers} {label}"
