"""Measure the cost of viewers of a run: CPU, memory, and calls to Flyte.

    python benchmarks/viewers.py [--viewers N,N,...] [--seconds N]

Each viewer opens the two streams of the web UI for a run: actions and log. The run has 13 actions;
12 of them have ended. Print a Markdown table with the cost per viewer of opening the streams, and
the cost of all viewers per minute without changes. The script needs Linux, because it reads /proc.
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
    """Return the number of calls that Flyte has received so far, by method."""
    return Counter(flyte.usage()["calls"])


async def view(client: httpx.AsyncClient, path: str, event_counts: Counter[str]) -> None:
    """Read a stream until this task is cancelled, and count the events."""
    async with client.stream("GET", path) as response:
        response.raise_for_status()
        async for line in response.aiter_lines():
            event_counts[path] += line.startswith("data:")


async def measure(
    app: Server, flyte: Server, headers: dict[str, str], run: str, *, viewers: int, seconds: float
) -> str:
    """Measure one number of viewers, and return a row of the table."""
    paths = [path.format(run=run) for path in STREAMS]
    event_counts = Counter[str]()
    options: dict[str, Any] = {
        "timeout": None,
        "limits": httpx.Limits(max_connections=None),
        "trust_env": False,
    }
    url = app.details["url"]
    async with httpx.AsyncClient(base_url=url, headers=headers, **options) as client:
        before, calls_before = app.usage(), calls(flyte)
        readers = [
            asyncio.create_task(view(client, path, event_counts))
            for path in paths
            for _ in range(viewers)
        ]
        while event_counts[paths[0]] < (PARTS + 1) * viewers:
            assert not any(reader.done() for reader in readers)
            await asyncio.sleep(0.1)
        opened, calls_opened = app.usage(), calls(flyte)
        await asyncio.sleep(seconds)
        later, calls_later = app.usage(), calls(flyte)
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
    minute = 60 / seconds
    cells = [
        f"{1000 * (opened['cpu'] - before['cpu']) / viewers:.0f}",
        f"{(calls_opened - calls_before).total() / viewers:.1f}",
        f"{(opened['memory'] - before['memory']) / viewers / 1000:.0f}",
        f"{1000 * minute * (later['cpu'] - opened['cpu']):.0f}",
        f"{minute * (calls_later - calls_opened).total():.0f}",
    ]
    return f"| {viewers} | {' | '.join(cells)} |"


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--viewers", default="1,10,50", help="numbers of viewers, separated by commas"
    )
    parser.add_argument(
        "--seconds", type=float, default=120, help="duration of the measurement without changes"
    )
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
