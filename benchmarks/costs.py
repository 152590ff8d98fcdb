"""Measure requests, events, idle streams, the start and the middleware in one run.

    python benchmarks/costs.py [--rounds N] [--streams N] [--docs FOLDER]

Serve three apps, each in one process with an access log, with one local Flyte server: the generated
app, and a minimal app with the same calls to ``flyte.remote``, without and with the SDK's
middleware. Call them in turn, with several levels of concurrency. CPU time is that of the app's
process. Results are medians over rounds; ratios are medians of the ratios within a round. Write
``numbers.md`` and ``numbers.svg`` in ``docs/``, and print whether the limits are kept. The script
takes some minutes, and needs Linux, because it reads /proc.
"""

import argparse
import asyncio
import platform
import resource
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import middleware
from chart import BLUE, GREY, ORANGE, draw
from servers import ROOT, Server, generate, start_run, started

APPS = ("minimal", "sdk", "ours")
LEVELS = {"GET /me": (1, 16, 100, 1000), "GET /runs": (1, 16, 100), "first event": (1, 16, 100)}
REQUESTS = 100  # minimum in one measurement
IDLE_SECONDS = 30  # long enough for keep-alives, which come every 15 seconds
TOOL_CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "me"}}
MAX_IDLE_CPU, MAX_TOOL_CALL_RATIO = 0.02, 2.5
MAX_RATIOS = {"sdk": 0.85, "minimal": 1.25}  # maximum ratio of the cost of GET /me
Rounds = dict[str, list[float]]
"""Measurements of each round, by app."""


PAGE = """# Performance numbers

This page shows how much CPU time and memory the generated app needs, for developers who compare it
with a minimal app. The minimal app makes the same calls with `flyte.remote`. Compare the ratios,
because absolute times depend on the machine.

`python benchmarks/costs.py` has generated this page in one run with Python {python},
{packages}. In each of {rounds} rounds, the script called one app after the other.
Each value and each ratio is the median of all rounds. All apps write an access log.

| microseconds of CPU {apps}
{requests}

![Microseconds of CPU per request](numbers.svg)

| {apps}
{others}
"""
HEAD = """\
| minimal app | with the SDK's middleware | ours | ours / minimal | ours / SDK's |
|---|---|---|---|---|---|"""


def median_ratio(rounds: Rounds, app: str, other: str) -> float:
    """Return the median of the ratios of two apps in the same round."""
    return statistics.median(a / b for a, b in zip(rounds[app], rounds[other], strict=True))


class Caller:
    """Calls the apps as one user, and measures the cost."""

    def __init__(self, servers: dict[str, Server], token: str, rounds: int) -> None:
        self.servers, self.rounds = servers, rounds
        self.headers = {"Authorization": f"Bearer {token}"}

    async def _call(self, url: str, path: str, concurrency: int) -> int:
        """Make requests with this concurrency, and return the number of requests."""
        number = max(REQUESTS, concurrency)
        left = iter(range(number))
        limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
        async with httpx.AsyncClient(
            base_url=url, headers=self.headers, limits=limits, timeout=300, trust_env=False
        ) as client:

            async def one_after_another() -> None:
                for _ in left:
                    call = client.post(path, json=TOOL_CALL) if path == "/mcp" else client.get(path)
                    (await call).raise_for_status()

            await asyncio.gather(*(one_after_another() for _ in range(concurrency)))
        return number

    def cost(self, app: str, path: str, concurrency: int = 1) -> float:
        """Return the CPU time of the app per request, in microseconds."""
        server = self.servers[app]
        before = server.usage()["cpu"]
        number = asyncio.run(self._call(server.details["url"], path, concurrency))
        return float(server.usage()["cpu"] - before) / number * 1e6

    def costs(self, path: str, concurrency: int) -> Rounds:
        """Return the cost for each app in each round, without a first warm-up round."""
        rounds: Rounds = {app: [] for app in self.servers}
        for _ in range(self.rounds + 1):
            for app, costs in rounds.items():
                costs.append(self.cost(app, path, concurrency))
        return {app: costs[1:] for app, costs in rounds.items()}

    def cost_of_a_tool_call(self) -> float:
        """Return the ratio of the cost of an MCP call of the tool ``me`` to that of ``GET /me``."""
        pairs = [
            (self.cost("ours", "/mcp"), self.cost("ours", "/me")) for _ in range(self.rounds + 1)
        ]
        return statistics.median(call / request for call, request in pairs[1:])


async def _open(url: httpx.URL, headers: dict[str, str], path: str) -> asyncio.StreamWriter:
    reader, writer = await asyncio.open_connection(url.host, url.port)
    [(name, value)] = headers.items()
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {url.host}\r\n{name}: {value}\r\n\r\n".encode())
    await reader.readuntil(b"event: phase")
    return writer


async def idle_streams(
    server: Server, headers: dict[str, str], path: str, number: int, seconds: float
) -> tuple[float, float]:
    """Open event streams; return bytes per stream, and the share of a core for all streams."""
    url, opened = httpx.URL(server.details["url"]), []
    opened += [await _open(url, headers, path) for _ in range(20)]
    before = server.usage()["memory"]
    for _ in range(number // 50):
        opened += await asyncio.gather(*(_open(url, headers, path) for _ in range(50)))
    used, began = server.usage(), time.monotonic()
    await asyncio.sleep(seconds)
    later, passed = server.usage(), time.monotonic() - began
    for writer in opened:
        writer.close()
    cpu = (later["cpu"] - used["cpu"]) / passed if seconds else 0
    return (used["memory"] - before) / number, cpu


def streams_of(
    app: str, project: Path, environment: dict[str, str], *call: Any
) -> tuple[float, float]:
    """Return the result of `idle_streams` for a new process of an app.

    With the unchanged SDK, an app often hangs while so many streams are opened, so this function
    retries. It kills the process at the end, because the SDK reopens streams of viewers who left.
    """
    seconds = IDLE_SECONDS if app == "ours" else 0
    for _ in range(5):
        with suppress(TimeoutError), started(app, project, environment) as server:
            opening = idle_streams(server, *call, seconds)
            try:
                return asyncio.run(asyncio.wait_for(opening, seconds + 60))
            finally:
                server.kill()
    raise SystemExit(f"{app} hangs with {call[-1]} streams")


def seconds_to_start(project: Path, environment: dict[str, str], rounds: int) -> Rounds:
    """Return the seconds until each app can be called, without the first round."""
    seconds: Rounds = {app: [] for app in APPS}
    for round_ in range(rounds + 1):
        for app in APPS:
            began = time.perf_counter()
            with started(app, project, environment):
                if round_:
                    seconds[app].append(time.perf_counter() - began)
    return seconds


def row(label: str, rounds: Rounds, digits: int = 0) -> str:
    """Return a row of a Markdown table."""
    cells = " | ".join(f"{statistics.median(rounds[app]):,.{digits}f}" for app in APPS)
    ratios = " | ".join(f"{median_ratio(rounds, 'ours', other):.2f}" for other in APPS[:2])
    return f"| {label} | {cells} | {ratios} |"


def main() -> int:
    """Run all measurements, write the page, and check the limits."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="output folder")
    options = parser.parse_args()
    files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (files[1], files[1])
    )  # child processes inherit the limit
    alone = middleware.measure_all(middleware.ROUNDS)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        project = generate(Path(folder))
        flyte = stack.enter_context(started("flyte", project, {}))
        # One user opens all streams.
        environment = flyte.details["environment"] | {"MAX_CONCURRENT_REQUESTS_PER_CALLER": "10000"}
        start = seconds_to_start(project, environment, options.rounds)
        servers = {app: stack.enter_context(started(app, project, environment)) for app in APPS}
        caller = Caller(servers, flyte.details["token"], options.rounds)
        url = servers["ours"].details["url"]
        long_run = start_run(url, caller.headers, "count", to=100_000)
        call = caller.headers, f"/runs/{long_run}/events", options.streams
        streams = {app: streams_of(app, project, environment, *call) for app in APPS}
        httpx.post(f"{url}/runs/{long_run}/abort", headers=caller.headers, trust_env=False)
        run = start_run(url, caller.headers, "greet", name="Ada")
        paths = {"GET /me": "/me", "GET /runs": "/runs", "first event": f"/runs/{run}/events"}
        httpx.get(url + paths["first event"], headers=caller.headers, timeout=60, trust_env=False)
        requests = {
            f"{request}, {concurrency:,} concurrent": caller.costs(paths[request], concurrency)
            for request, levels in LEVELS.items()
            for concurrency in levels
        }
        tool_call = caller.cost_of_a_tool_call()
    memory = {app: [size / 1000] for app, (size, _) in streams.items()}
    others = [
        row(f"kB of memory for each of {options.streams:,} idle streams", memory),
        row("seconds until it can be called", start, digits=2),
    ]
    text = PAGE.format(
        rounds=options.rounds,
        python=platform.python_version(),
        packages=", ".join(f"{name} {version(name)}" for name in ("flyte", "fastapi", "uvicorn")),
        apps=HEAD,
        requests="\n".join(row(label, rounds) for label, rounds in requests.items()),
        others="\n".join(others),
    )
    (options.docs / "numbers.md").write_text(text, "utf-8")
    medians = {
        label: {app: statistics.median(rounds[app]) for app in APPS}
        for label, rounds in requests.items()
    }
    colours = dict(zip(APPS, (GREY, ORANGE, BLUE), strict=True))
    draw("Microseconds of CPU per request", medians, colours, options.docs / "numbers.svg")
    print(text, *middleware.markdown(alone), sep="\n")
    limits = [
        (f"{label}: times {other}", median_ratio(rounds, "ours", other), most)
        for label, rounds in requests.items()
        for other, most in MAX_RATIOS.items()
        if label.startswith("GET /me")
    ]
    limits += [
        ("an agent's call of the tool me, times GET /me", tool_call, MAX_TOOL_CALL_RATIO),
        ("idle streams of ours, share of a core", streams["ours"][1], MAX_IDLE_CPU),
        *middleware.limits(alone),
    ]
    return min(1, middleware.check(limits))


if __name__ == "__main__":
    sys.exit(main())
