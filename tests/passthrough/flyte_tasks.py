"""The tasks that the tests run."""

import asyncio
import itertools
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import flyte
import flyte.report
from flyte.io import File

env = flyte.TaskEnvironment(name="tests")
UNPICKLED = Path(tempfile.gettempdir(), "a-gift-was-unpickled")


Split = NamedTuple("Split", [("result", str), ("pb2", int)])  # noqa: UP014 # names its outputs


@env.task
async def split(text: str) -> Split:
    return Split(text[:1], len(text))


@env.task
async def greet(name: str, excited: bool = False) -> str:
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
async def ask(
    prompts: list[str], kind: str = "bool", seconds: int = 0, fails_after: int = 0
) -> str:
    """Ask all at once, for so many seconds, and return the answers, or fail after some."""
    types: dict[str, type] = {"bool": bool, "int": int, "float": float, "str": str}

    async def answer(number: int, prompt: str) -> object:
        condition = await flyte.new_condition.aio(
            f"question-{number}", prompt=prompt, data_type=types[kind], timeout=seconds or None
        )
        return await condition.wait.aio()

    answers = asyncio.gather(*map(answer, itertools.count(), prompts))
    return str(await asyncio.wait_for(answers, fails_after or None))


def is_there(path: str) -> bool:
    return Path(path).exists()


@env.task(retries=1)
async def stumble(times: int, until: str = "") -> int:
    """Print, fail so many times, then go on until there is such a file."""
    context = flyte.ctx()
    attempt = context.attempt_number if context else 0
    for number in range(3):
        print(f"attempt {attempt}, line {number}", flush=True)
    if attempt < times:
        raise ValueError(f"attempt {attempt} stumbles")
    while until and not is_there(until):
        print("waiting", flush=True)
        await asyncio.sleep(0.1)
    return attempt


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


@env.task
async def shout(lines: int = 24_000) -> None:
    """Print 1 kB on each of many lines."""
    for _ in range(lines):
        print("x" * 1000)


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


@env.task
async def same(values: list[int]) -> list[int]:
    return values
