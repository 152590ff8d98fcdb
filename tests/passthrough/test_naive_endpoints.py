"""Endpoints that are written from Flyte's documentation keep every promise: `naive_endpoints`."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from fastapi import APIRouter

from local_flyte import LocalFlyte
from local_flyte.testing import client_of, ended, start

from . import naive_endpoints
from .deployed_tasks import UNPICKLED

WHO = ("alice", "bob", "victor", "carol", "expired", None)
GREET, COUNT = "tests.greet", "tests.count"
ADA = {"name": "Ada"}

router = APIRouter()
router.include_router(naive_endpoints.router)

ALL = "200 200 200 200 401 401"
VIEWERS = "200 200 200 403 401 401"
RUNNERS = "200 200 403 403 401 401"
STATUSES: dict[str, tuple[str, Any]] = {
    "GET /whoami": (ALL, None),
    f"GET /tasks/{GREET}": (VIEWERS, None),
    f"POST /tasks/{GREET}/run": (RUNNERS, ADA),
    f"POST /tasks/{COUNT}/run": ("502 502 403 403 401 401", {"to": 0}),  # it fails
    f"POST /run-task/flytesnacks/development/{GREET}": (RUNNERS, ADA),
    "GET /runs/{run}": (VIEWERS, None),
    "GET /runs/{run}/first-line": (VIEWERS, None),
    "GET /runs/{run}/io": (VIEWERS, None),
    "POST /runs/{run}/again": (RUNNERS, {"name": "Bob"}),
    "POST /runs/{doomed}/abort": (RUNNERS, None),
}
"""The statuses that the people in `WHO` get, and the body to send."""


@pytest.fixture(scope="module")
def names(local_flyte: LocalFlyte, greeting: str) -> dict[str, str]:
    """The runs in the paths."""
    return {"run": greeting, "doomed": start(COUNT, to=100_000)}


@pytest.mark.parametrize("endpoint", STATUSES)
def test_every_person_gets_the_expected_status(
    url: str, names: dict[str, str], endpoint: str
) -> None:
    expected, body = STATUSES[endpoint]
    method, path = endpoint.format(**names).split()
    content = {"json": body} if body else {}

    def status(who: str | None) -> str:
        with client_of(url, who) as client:
            answer = client.request(method, path, **content)
            if answer.status_code == 200 and method == "POST" and isinstance(answer.json(), str):
                client.post(f"/runs/{answer.json()}/abort")  # the run that it has started
            return str(answer.status_code)

    with ThreadPoolExecutor(len(WHO)) as pool:
        assert " ".join(pool.map(status, WHO)) == expected


def test_values_that_a_stranger_stored_are_data(
    alice: httpx.Client, local_flyte: LocalFlyte
) -> None:
    run = ended(start("tests.gifts"))
    UNPICKLED.unlink(missing_ok=True)
    found = alice.get(f"/runs/{run}/io").json()["outputs"]
    assert all(found[number].pop("size") > 0 for number in (0, 3))
    assert found == [
        {"kind": "pickle"},
        {"kind": "file", "uri": "file:///etc/passwd"},
        {"kind": "file", "uri": "http://169.254.169.254/latest"},
        {"kind": "too large"},
        "NaN",
    ]
    assert alice.get("/tasks/tests.gifts").json()["schema"]["type"] == "object"
    assert not UNPICKLED.exists()
