"""What everything costs, in one run: the middleware, requests, events, idle streams, a start.

    python benchmarks/costs.py [--rounds N] [--at-once N ...] [--streams N]

Serves the generated app, and beside it the least app without and with the SDK's middleware, as
``request_cost.py`` does, and calls them by turns, with 1, 10, 100 and 1,000 requests at once. The
CPU time is that of the app's process; medians over rounds. Writes ``numbers.md`` and
``numbers.svg`` in ``docs/``. The numbers are the machine's; the ratios are what to look at. Linux
only: it reads /proc.
"""

import argparse
import asyncio
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import AbstractContextManager, ExitStack
from importlib.metadata import version
from pathlib import Path

import httpx
import middleware
from chart import BLUE, GREY, ORANGE, draw
from request_cost import APPS, Server, generate, idle_streams, run_of, started

DOCS = Path(__file__).resolve().parents[1] / "docs"
LEAST_REQUESTS = 50  # in a round
COLOURS = dict(zip(APPS, (GREY, ORANGE, BLUE), strict=True))
Table = dict[str, dict[str, float]]


async def ask(url: str, headers: dict[str, str], path: str, at_once: int) -> None:
    """Make requests, so many at once."""
    left = iter(range(max(LEAST_REQUESTS, at_once)))
    limits = httpx.Limits(max_connections=at_once, max_keepalive_connections=at_once)
    async with httpx.AsyncClient(
        base_url=url, headers=headers, limits=limits, timeout=300, trust_env=False
    ) as client:

        async def one_after_another() -> None:
            for _ in left:
                (await client.get(path)).raise_for_status()

        await asyncio.gather(*(one_after_another() for _ in range(at_once)))


def cost_of_requests(
    servers: dict[str, Server], headers: dict[str, str], run: str, options: argparse.Namespace
) -> Table:
    """Return microseconds of CPU per request, for each app."""
    requests = {"GET /me": "/me", "GET /runs": "/runs", "first event": f"/runs/{run}/events"}
    table: Table = {}
    for request, path in requests.items():
        for at_once in options.at_once:
            costs: dict[str, list[float]] = {name: [] for name in servers}
            for round_ in range(options.rounds + 1):  # the first warms up
                for name, server in servers.items():
                    before = server.usage()["cpu"]
                    asyncio.run(ask(server.told["url"], headers, path, at_once))
                    spent = server.usage()["cpu"] - before
                    if round_:
                        costs[name].append(spent / max(LEAST_REQUESTS, at_once) * 1e6)
            medians = {name: statistics.median(each) for name, each in costs.items()}
            table[f"{request}, {at_once:,} at once"] = medians
    return table


def served(name: str, project: Path, environment: dict[str, str]) -> AbstractContextManager[Server]:
    """Serve an app until the block ends."""
    return started(name, project, environment, log=subprocess.DEVNULL)


def cost_of_start(project: Path, environment: dict[str, str], rounds: int) -> dict[str, float]:
    """Return the seconds until each app can be called, by turns."""
    seconds: dict[str, list[float]] = {name: [] for name in APPS}
    for round_ in range(rounds + 1):
        for name in APPS:
            began = time.perf_counter()
            with served(name, project, environment):
                if round_:
                    seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(each) for name, each in seconds.items()}


def memory_of_a_stream(server: Server, token: str, run: str, many: int) -> float:
    """Return the kilobytes that each of so many silent streams takes."""
    url, path = server.told["url"], f"/runs/{run}/events"
    taken, _ = asyncio.run(idle_streams(server, url, token, path, many, seconds=0))
    return taken / 1000


def rows(table: Table, digits: int) -> list[str]:
    """Return the rows of a Markdown table of apps."""
    return [
        f"| {label} | {' | '.join(f'{row[name]:,.{digits}f}' for name in APPS)}"
        f" | {row['ours'] / row['least']:.2f} | {row['sdk'] / row['least']:.2f} |"
        for label, row in table.items()
    ]


def page(rounds: int, alone: Table, requests: Table, streams: Table, start: Table) -> str:
    """Return docs/numbers.md."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("flyte", "fastapi", "uvicorn"))
    lines = [
        "# Numbers",
        "",
        "Made by `python benchmarks/costs.py`, in one run, by turns; medians of"
        f" {rounds} rounds. Python {platform.python_version()}, {packages}.",
        "The numbers are the machine's; the ratios are what to look at. Where something else runs,"
        " a single one may be far off.",
        "",
        "The least app makes the same calls of `flyte.remote` as the generated one, and no more.",
        "",
        "| microseconds of CPU | least app | with the SDK's middleware | ours | ours / least |"
        " SDK / least |",
        "|---|---|---|---|---|---|",
        *rows(requests, 0),
        "",
        "![Microseconds of CPU per request](numbers.svg)",
        "",
        "| | least app | with the SDK's middleware | ours | ours / least | SDK / least |",
        "|---|---|---|---|---|---|",
        *rows(streams, 0),
        *rows(start, 2),
        "",
        "The middleware alone, microseconds of CPU per request, without a server:",
        "",
        "| | bare | floor | SDK | ours |",
        "|---|---|---|---|---|",
        *(
            f"| {label} | {' | '.join(f'{row[name]:.1f}' for name in middleware.contestants())} |"
            for label, row in alone.items()
        ),
        "",
        "*Bare* is no middleware; *floor* is nothing but `with auth_metadata(...)` around the app.",
    ]
    return "\n".join([*lines, ""])


def main() -> int:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 10, 100, 1000])
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--docs", type=Path, default=DOCS, help="where to write to")
    options = parser.parse_args()
    files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files[1], files[1]))  # for servers, too
    alone = asyncio.run(middleware.measure_all(options.rounds))
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        project = generate(Path(folder))
        flyte = stack.enter_context(started("flyte", project, {}))
        environment, token = flyte.told["environment"], flyte.told["token"]
        headers = {"Authorization": f"Bearer {token}"}
        start = cost_of_start(project, environment, options.rounds)
        servers = {name: stack.enter_context(served(name, project, environment)) for name in APPS}
        with httpx.Client(
            base_url=servers["ours"].told["url"], headers=headers, timeout=60, trust_env=False
        ) as client:
            # First, as what requests leave behind would be used again.
            going_on = run_of(client, "count", to=100_000)
            streams = {
                name: memory_of_a_stream(server, token, going_on, options.streams)
                for name, server in servers.items()
            }
            client.post(f"/runs/{going_on}/abort")
            ended = run_of(client, "greet", name="Ada")
            client.get(f"/runs/{ended}/events")  # until it has
            requests = cost_of_requests(servers, headers, ended, options)
    label = f"kB of memory for each of {options.streams:,} silent streams"
    started_in = {"seconds until it can be called": start}
    text = page(options.rounds, alone, requests, {label: streams}, started_in)
    (options.docs / "numbers.md").write_text(text, "utf-8")
    draw("Microseconds of CPU per request", requests, COLOURS, options.docs / "numbers.svg")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
