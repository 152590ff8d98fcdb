"""What viewers of a run cost: the app's CPU and memory, and the calls that Flyte receives.

    python benchmarks/viewers.py [--viewers N,N,...] [--seconds N]

Each viewer has the two streams of the page's view of a run: its changes, and a log. The run has 13
actions, of which 12 have ended. Prints a Markdown table: what it costs to open the streams, for
each viewer, and what it costs in a minute in which nothing changes, for all. Linux only: it reads
/proc.
"""

import argparse
import asyncio
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
from servers import Server, generate, start_run, started

PARTS = 12
STREAMS = ("/runs/{run}/actions/events", "/runs/{run}/logs")
TASK = "viewers.whole"


def calls(flyte: Server) -> Counter[str]:
    """Return the calls that Flyte has received so far, by method."""
    return Counter(flyte.usage()["calls"])


async def view(client: httpx.AsyncClient, path: str, seen: Counter[str]) -> None:
    """Read a stream until it is cancelled, and count its events."""
    async with client.stream("GET", path) as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            seen[path] += line.startswith("data:")


async def measure(
    app: Server, flyte: Server, headers: dict[str, str], run: str, *, viewers: int, seconds: float
) -> str:
    """Return a row of the table."""
    paths = [path.format(run=run) for path in STREAMS]
    seen = Counter[str]()
    options: dict[str, Any] = {
        "timeout": None,
        "limits": httpx.Limits(max_connections=None),
        "trust_env": False,
    }
    url = app.details["url"]
    async with httpx.AsyncClient(base_url=url, headers=headers, **options) as client:
        before, asked = app.usage(), calls(flyte)
        reading = [
            asyncio.create_task(view(client, path, seen)) for path in paths for _ in range(viewers)
        ]
        while seen[paths[0]] < (PARTS + 1) * viewers:
            assert not any(each.done() for each in reading)
            await asyncio.sleep(0.1)
        opened, asked_to_open = app.usage(), calls(flyte)
        await asyncio.sleep(seconds)
        later, asked_in_all = app.usage(), calls(flyte)
        for each in reading:
            each.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
    minute = 60 / seconds
    cells = [
        f"{1000 * (opened['cpu'] - before['cpu']) / viewers:.0f}",
        f"{(asked_to_open - asked).total() / viewers:.1f}",
        f"{(opened['memory'] - before['memory']) / viewers / 1000:.0f}",
        f"{1000 * minute * (later['cpu'] - opened['cpu']):.0f}",
        f"{minute * (asked_in_all - asked_to_open).total():.0f}",
    ]
    return f"| {viewers} | {' | '.join(cells)} |"


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--viewers", default="1,10,50", help="how many, separated by commas")
    parser.add_argument("--seconds", type=float, default=120, help="in which nothing changes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        project = generate(Path(folder))
        flyte = stack.enter_context(started("flyte", project, {}))
        app = stack.enter_context(started("ours", project, flyte.details["environment"]))
        headers = {"Authorization": f"Bearer {flyte.details['token']}"}
        run = start_run(app.details["url"], headers, TASK, parts=PARTS)
        with httpx.Client(base_url=app.details["url"], headers=headers, trust_env=False) as client:
            while len(client.get(f"/runs/{run}/actions", timeout=60).json()) < PARTS + 1:
                pass
        print("| viewers | ms of CPU, each | calls, each | kB, each | ms of CPU a minute", end="")
        print(" | calls a minute |\n|---|---|---|---|---|---|")
        for viewers in map(int, options.viewers.split(",")):
            view_for = measure(app, flyte, headers, run, viewers=viewers, seconds=options.seconds)
            print(asyncio.run(view_for))


if __name__ == "__main__":
    main()
