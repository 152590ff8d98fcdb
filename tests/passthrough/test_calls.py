"""Which calls to Flyte each endpoint makes: those in the table of docs/scaling.md, and no other."""

import re
from typing import Any

import httpx
import pytest
from fastapi import APIRouter
from template import ROOT

from app.routers import actions, conditions, me, projects, runs, streams, tasks
from local_flyte import LocalFlyte
from local_flyte.testing import ended, start, wait_until

from ..baking import PROJECT
from .support import build_app

router = APIRouter()
for module in (actions, conditions, me, projects, runs, streams, tasks):
    router.include_router(module.router)

PAGE = ROOT / PROJECT / "docs/scaling.md"
ROWS = re.findall(r"^\| `(\w+) ([^`]+)`(?:, (\w+).*)? \| (.*) \|$", PAGE.read_text("utf-8"), re.M)
BODIES: dict[str, Any] = {
    "/tasks/{name}/runs": {"inputs": {"name": "Ada"}},
    "/runs/{name}/conditions/{action}": {"value": True},
}


@pytest.fixture(scope="module")
def examples(local_flyte: LocalFlyte, greeting: str) -> dict[str, str]:
    """The names of runs in each state, and the action that asks."""
    asking = start("tests.ask", prompts=["?"])
    (found,) = (run for run in local_flyte._services.runs if run.id.name == asking)
    wait_until(lambda: found.asks)
    return {
        "": greeting,
        "failed": ended(start("tests.count", to=0)),
        "drawn": ended(start("tests.draw", html="")),
        "asking": asking,
        "action": next(name for name in found.actions if name != "a0"),
    }


@pytest.mark.parametrize(("method", "path", "state", "calls"), ROWS)
def test_an_endpoint_makes_the_documented_calls_and_no_other(
    *,
    alice: httpx.Client,
    local_flyte: LocalFlyte,
    examples: dict[str, str],
    method: str,
    path: str,
    state: str,
    calls: str,
) -> None:
    run = start("tests.count", to=100_000) if state == "running" else examples[state]
    name = "tests.greet" if path.startswith("/tasks") else run
    action = examples["action"] if "/conditions/" in path else "a0"
    local_flyte.clear_calls()
    headers = {"x-request-id": "00000000-calls"}
    url = path.format(name=name, action=action)
    response = alice.request(method, url, json=BODIES.get(path), headers=headers)
    made = [each.method for each in local_flyte.calls if headers.items() <= each.headers.items()]
    if state == "running":
        alice.post(f"/runs/{run}/abort")
    assert response.status_code < 400, response.text
    assert made == ([] if calls == "none" else calls.split(", "))


def test_every_operation_is_in_the_table() -> None:
    paths = build_app(router).openapi()["paths"]
    operations = {(method.upper(), path) for path in paths for method in paths[path]}
    assert operations == {(method, path.partition("?")[0]) for method, path, *_ in ROWS}
