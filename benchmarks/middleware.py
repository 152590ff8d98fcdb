"""Measure the cost of a request in process: our middleware, the SDK's, a minimum, and none.

    python benchmarks/middleware.py [--rounds N]

Print a Markdown table of the CPU time per request, in microseconds (medians over rounds that
alternate between the apps), and whether our middleware keeps the limits. The exit code is 1 if a
limit is exceeded.
"""

import argparse
import asyncio
import gc
import statistics
import sys
import time
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

TEMPLATE = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TEMPLATE / "{{cookiecutter.project_slug}}"))

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from flyte.app.extras import FastAPIPassthroughAuthMiddleware as SdkMiddleware
    from flyte.remote import auth_metadata

    from passthrough.passthrough_auth import FastAPIPassthroughAuthMiddleware

SECONDS_PER_MEASUREMENT = 0.01
ROUNDS = 31
Table = dict[str, dict[str, float]]
"""Costs by profile and app."""

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
HOST, ORIGIN = BROWSER[:1], (b"origin", b"https://app.example.com")
PROFILES: dict[str, tuple[str, str, list[Header]]] = {
    "bearer, 2 headers": ("GET", "/runs", [*HOST, (b"authorization", b"Bearer 0123456789")]),
    "JWT + cookie, 13 headers": ("GET", "/runs", [*BROWSER, JWT, COOKIE]),
    "cookie POST, same origin": ("POST", "/runs", [*BROWSER, COOKIE, ORIGIN]),
    "401": ("GET", "/runs", HOST),
    "excluded path": ("GET", "/health", HOST),
}


async def bare(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - ASGI
    """Respond without middleware."""
    headers = [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})


async def floor(scope: Scope, receive: Receive, send: Send) -> None:
    """Do only the work that every such middleware must do."""
    with auth_metadata(("authorization", "Bearer 0123456789")):
        await bare(scope, receive, send)


APPS: dict[str, ASGIApp] = {
    "bare": bare,
    "floor": floor,
    "SDK": SdkMiddleware(bare, excluded_paths={"/health"}),
    "ours": FastAPIPassthroughAuthMiddleware(bare, excluded_paths={"/health"}),
}


async def measure(app: ASGIApp, scope: dict[str, Any], times: int) -> float:
    """Return the CPU time per request in microseconds, over ``times`` requests."""

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        pass

    begin = time.process_time()
    for _ in range(times):
        await app(scope.copy(), receive, send)
    return (time.process_time() - begin) / times * 1e6


async def compare(rounds: int, method: str, path: str, headers: list[Header]) -> dict[str, float]:
    """Return the median of each app for one profile."""
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
    warm = {name: await measure(app, scope, 200) for name, app in APPS.items()}
    times = {name: int(SECONDS_PER_MEASUREMENT * 1e6 / cost) + 1 for name, cost in warm.items()}
    costs: dict[str, list[float]] = {name: [] for name in APPS}
    for _ in range(rounds):
        for name, app in APPS.items():
            gc.collect()
            gc.disable()
            costs[name].append(await measure(app, scope, times[name]))
            gc.enable()
    return {name: statistics.median(values) for name, values in costs.items()}


def measure_all(rounds: int) -> Table:
    """Return all costs."""
    return {name: asyncio.run(compare(rounds, *profile)) for name, profile in PROFILES.items()}


def markdown(table: Table) -> list[str]:
    """Return the lines of a Markdown table."""
    costs = [[profile, *(f"{cost:.1f}" for cost in row.values())] for profile, row in table.items()]
    rows = ["", *APPS], ["---"] * (len(APPS) + 1), *costs
    return [f"| {' | '.join(cells)} |" for cells in rows]


def limits(table: Table) -> list[tuple[str, float, float]]:
    """Return a description, the measured value and the limit, for each limit."""
    bearer, jwt, _, refused, excluded = table.values()
    checks = [
        ("bearer: floor + 3 us", bearer["ours"], bearer["floor"] + 3),
        ("JWT + cookie: floor + 6 us", jwt["ours"], jwt["floor"] + 6),
        ("401: a fifth of the SDK's", refused["ours"], refused["SDK"] / 5),
        ("excluded: bare + 1 us", excluded["ours"], excluded["bare"] + 1),
    ]
    for name, row in (("bearer", bearer), ("excluded", excluded)):
        ours, sdk = (row[app] - row["bare"] for app in ("ours", "SDK"))
        checks.append((f"{name}: a twelfth of the SDK's cost above bare", ours, sdk / 12))
    return checks


def check(limits: Iterable[tuple[str, float, float]]) -> int:
    """Print whether each limit is kept, and return the number of exceeded limits."""
    missed = 0
    for description, value, limit in limits:
        missed += value > limit
        verdict = "kept" if value <= limit else "MISSED"
        print(f"{verdict}: {description}: {value:.3g} (limit {limit:.3g})")
    return missed


def main() -> int:
    """Measure, print the table, and check the limits."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    table = measure_all(parser.parse_args().rounds)
    print("\n".join(markdown(table)))
    return min(1, check(limits(table)))


if __name__ == "__main__":
    sys.exit(main())
