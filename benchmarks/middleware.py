"""The cost of a request in each middleware, in process: ours, the SDK's, the floor, and none.

Usage: python benchmarks/middleware.py [--rounds N]

Prints a Markdown table of microseconds of CPU per request (medians over rounds that alternate
between the contestants) and whether ours is within its limits, and draws ``middleware.svg``. Exits
with 1 if a limit is exceeded.
"""

import argparse
import asyncio
import gc
import importlib
import platform
import statistics
import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

from chart import BLUE, GREY, ORANGE, draw
from starlette.types import ASGIApp, Message, Receive, Scope, Send

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from flyte.app.extras import FastAPIPassthroughAuthMiddleware as SdkMiddleware
    from flyte.remote import auth_metadata

PACKAGE = Path("{{cookiecutter.project_slug}}") / "passthrough"
FILE = Path(__file__).resolve().parents[1] / PACKAGE / "passthrough_auth.py"
SECONDS_PER_MEASUREMENT = 0.01

Header = tuple[bytes, bytes]
JWT: Header = (b"authorization", b"Bearer " + b"eyJhbGciOiJSUzI1NiJ9." * 40)
COOKIE: Header = (b"cookie", b"session=0123456789abcdef; theme=dark; _ga=GA1.2.345.678")
BROWSER: list[Header] = [
    (b"host", b"app.example.com"),
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"),
    (b"accept", b"application/json"),
    (b"accept-language", b"en-GB,en;q=0.9"),
    (b"accept-encoding", b"gzip, deflate, br"),
    (b"connection", b"keep-alive"),
    (b"referer", b"https://app.example.com/runs"),
    (b"sec-fetch-site", b"same-origin"),
    (b"sec-fetch-mode", b"cors"),
    (b"sec-fetch-dest", b"empty"),
    (b"x-request-id", b"0f8fad5bd9cb469fa16570867728950e"),
]
HOST = BROWSER[:1]
PROFILES: dict[str, tuple[str, str, list[Header]]] = {
    "bearer, 2 headers": ("GET", "/runs", [*HOST, (b"authorization", b"Bearer 0123456789")]),
    "JWT + cookie, 13 headers": ("GET", "/runs", [*BROWSER, JWT, COOKIE]),
    "cookie POST, same origin": (
        "POST",
        "/runs",
        [*BROWSER, COOKIE, (b"origin", b"https://app.example.com")],
    ),
    "401": ("GET", "/runs", HOST),
    "excluded path": ("GET", "/health", HOST),
}


async def bare(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - ASGI
    """Answer without any middleware."""
    headers = [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})


async def floor(scope: Scope, receive: Receive, send: Send) -> None:
    """Do only what every such middleware must do."""
    with auth_metadata(("authorization", "Bearer 0123456789")):
        await bare(scope, receive, send)


def contestants() -> dict[str, ASGIApp]:
    """Return every application to measure, by column."""
    sys.path.insert(0, str(FILE.parent))
    module = importlib.import_module("passthrough_auth")
    excluded = {"/health"}
    return {
        "bare": bare,
        "floor": floor,
        "SDK": SdkMiddleware(bare, excluded_paths=excluded),
        "ours": module.FastAPIPassthroughAuthMiddleware(bare, excluded_paths=excluded),
    }


async def measure(app: ASGIApp, scope: dict[str, Any], times: int) -> float:
    """Return the microseconds per request, for this many requests."""

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        pass

    begin = time.process_time()
    for _ in range(times):
        await app(scope.copy(), receive, send)
    return (time.process_time() - begin) / times * 1e6


async def measure_all(rounds: int) -> dict[str, dict[str, float]]:
    """Return, for each profile, each contestant's median."""
    apps = contestants()
    table = {}
    for profile, (method, path, headers) in PROFILES.items():
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "https",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": headers,
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 8000),
        }
        warm = {name: await measure(app, scope, 200) for name, app in apps.items()}
        times = {name: int(SECONDS_PER_MEASUREMENT * 1e6 / cost) + 1 for name, cost in warm.items()}
        costs: dict[str, list[float]] = {name: [] for name in apps}
        for _ in range(rounds):
            for name, app in apps.items():
                gc.collect()
                gc.disable()
                costs[name].append(await measure(app, scope, times[name]))
                gc.enable()
        table[profile] = {name: statistics.median(values) for name, values in costs.items()}
    return table


def bars(table: dict[str, dict[str, float]]) -> list[tuple[str, float, float]]:
    """Return the limits: a description, the limit, and the measured value."""
    bearer, jwt, _, refused, excluded = table.values()
    promises = [
        ("bearer: floor + 3 us", bearer["floor"] + 3, bearer["ours"]),
        ("JWT + cookie: floor + 6 us", jwt["floor"] + 6, jwt["ours"]),
        ("401: a fifth of the SDK's", refused["SDK"] / 5, refused["ours"]),
        ("excluded: bare + 1 us", excluded["bare"] + 1, excluded["ours"]),
    ]
    # The cost that each adds to the bare app. A 401 has its own limit, above.
    times = {"bearer, 2 headers": 12, "excluded path": 12}
    for profile in [profile for profile in table if profile != "401"]:
        row, least = table[profile], times.get(profile, 8)
        excess = (row["SDK"] - row["bare"]) / least
        promises.append((f"{profile}: SDK's excess / {least}", excess, row["ours"] - row["bare"]))
    return promises


def main() -> int:
    """Measure, print, and check the limits."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=31)
    table = asyncio.run(measure_all(parser.parse_args().rounds))
    packages = ", ".join(f"{name} {version(name)}" for name in ("flyte", "starlette"))
    print(f"Python {platform.python_version()}, {packages}; microseconds of CPU per request\n")
    print("| profile | bare | floor | SDK | ours | SDK's excess / ours |")
    print("|---|---|---|---|---|---|")
    for profile, row in table.items():
        ratio = (row["SDK"] - row["bare"]) / (row["ours"] - row["bare"])
        lowest = "-" if profile in ("401", "excluded path") else f"{row['floor']:.1f}"
        cells = f"{row['bare']:.1f} | {lowest} | {row['SDK']:.0f} | {row['ours']:.1f}"
        print(f"| {profile} | {cells} | {ratio:.0f} |")
    print()
    columns = {
        profile: {name: row[name] for name in ("floor", "ours", "SDK")}
        for profile, row in table.items()
    }
    for profile in ("401", "excluded path"):
        del columns[profile]["floor"]
    colours = {"floor": GREY, "SDK": ORANGE, "ours": BLUE}
    title = "Microseconds of CPU per request, without a server"
    draw(title, columns, colours, Path(__file__).with_suffix(".svg"))
    missed = 0
    for promise, limit, cost in bars(table):
        missed += cost > limit
        print(f"{'MISSED' if cost > limit else 'kept'}: {promise} = {limit:.1f}, is {cost:.1f}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
