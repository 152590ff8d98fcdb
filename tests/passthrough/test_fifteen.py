"""Tests of endpoints that are written from Flyte's documentation: the table in docs/.

To regenerate the page, run this file as a module, with the template's folder in PYTHONPATH.
"""

import asyncio
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import flyte
import httpx
import pytest
from connectrpc.code import Code
from fastapi import APIRouter
from flyte import remote
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from local_flyte import PEOPLE, LocalFlyte
from local_flyte.testing import acting_as, bearer, client_of, ended, start, wait_until
from passthrough.dependencies import ProjectDomain

from . import fifteen
from .support import FOLDER

PAGE = Path(__file__).parents[2] / "docs" / "fifteen-endpoints.md"
WHO = ("alice", "bob", "victor", "carol", "expired", None)
TITLES = ("alice", "bob", "victor", "carol", "token expired", "no credentials")
GREET, GIFTS, COUNT = "tests.greet", "fifteen.gifts", "tests.count"
ADA = {"name": "Ada"}

router = APIRouter()
router.include_router(fifteen.router, dependencies=[ProjectDomain])  # as app/main.py does


class Row(NamedTuple):
    """An endpoint, the statuses that people get, an attack or failure, and its outcome."""

    endpoint: str
    people: str
    tried: str
    outcome: str
    body: Any = None


ALL = "200 200 200 200 401 401"
VIEWERS = "200 200 200 403 401 401"
RUNNERS = "200 200 403 403 401 401"
ERRORS = "Flyte hangs, fails, is back"
IN_TIME = "504 after `FLYTE_TIMEOUT`; 502; then 200"
WRONG = "all inputs wrong; one named `task` or `run_name`"
AT_ONCE = "422, each with its location"
STRANGE = "a run that returned a pickle, `file:///etc/passwd`, 500 levels, NaN"
DATA = "`{kind: pickle}`, a URI, `{kind: too large}`, `NaN`; nothing loaded or opened"
LEAVING = "viewers leave before its end"
ENDS = "the call to Flyte ends"

ROWS = [
    Row(
        "GET /whoami",
        ALL,
        "200 requests of six people at once, logs at DEBUG",
        "never mixed; no token logged",
    ),
    Row("GET /projects", ALL, ERRORS, IN_TIME),
    Row("GET /projects/flytesnacks", VIEWERS, "", ""),
    Row("GET /tasks", VIEWERS, ERRORS, IN_TIME),
    Row(f"GET /tasks/{GIFTS}", VIEWERS, "a task of pickles", "JSON Schema; nothing loaded"),
    Row(f"POST /tasks/{GREET}/run", RUNNERS, WRONG, AT_ONCE, ADA),
    Row(
        f"POST /tasks/{COUNT}/run",
        "502 502 403 403 401 401",
        "a run that fails; one that takes longer than twice `FLYTE_TIMEOUT`",
        "502; 504",
        {"to": 0},
    ),
    Row(f"POST /tasks/{GREET}/run-sync", RUNNERS, WRONG, AT_ONCE, ADA),
    Row(
        f"POST /tasks/{GREET}/run-blocking",
        "500 500 500 500 500 401",
        "it blocks in an `async def`",
        "refused at once; the log says what to write",
        ADA,
    ),
    Row(f"POST /run-task/flytesnacks/development/{GREET}", RUNNERS, "no such project", "404", ADA),
    Row("POST /words", RUNNERS, "a body of 2 MiB", "413", b"one two"),
    Row(
        "POST /count",
        RUNNERS,
        "its task is defined at module level",
        "each caller fetches it",
    ),
    Row("POST /count-many?times=1", RUNNERS, "", ""),
    Row("GET /runs", VIEWERS, ERRORS, IN_TIME),
    Row("GET /runs/since/2020-01-01T00:00:00Z", VIEWERS, "not a time", "422"),
    Row("GET /runs/{run}", VIEWERS, "no such run; a name of 5000 letters", "404; 400"),
    Row("GET /runs/{run}/watch", VIEWERS, LEAVING, ENDS),
    Row("WS /runs/{run}/live", "101 101 101 1011 1011 401", LEAVING, ENDS),
    Row("GET /runs/{run}/logs", VIEWERS, LEAVING, ENDS),
    Row("GET /runs/{run}/logs-sync", "200 200 200 cut cut 401", LEAVING, ENDS),
    Row("GET /runs/{run}/first-line", VIEWERS, "the endpoint stops in the middle of a log", ENDS),
    Row("GET /runs/{run}/result", VIEWERS, STRANGE, DATA),
    Row("GET /runs/{run}/io", VIEWERS, STRANGE, DATA),
    Row("POST /runs/{run}/again", RUNNERS, WRONG, AT_ONCE, {"name": "Bob"}),
    Row("POST /runs/{doomed}/abort", RUNNERS, "", ""),
    Row("GET /runs/{run}/actions", VIEWERS, ERRORS, IN_TIME),
    Row("GET /runs/{failed}/failure", VIEWERS, "", ""),
    Row(
        "GET /runs/{run}/report",
        "500 500 500 403 401 401",
        "it opens storage",
        "refused; the log says what to show",
    ),
    Row(
        "POST /later",
        RUNNERS,
        "the answer was sent long ago",
        "the background task still acts as its caller",
    ),
    Row("GET /triggers", VIEWERS, "", ""),
    Row("GET /secrets", "501 501 501 501 401 401", "", "the local Flyte has none"),
    Row("GET /apps", VIEWERS, "", ""),
]

INTRODUCTION = """\
# Thirty naive endpoints under attack

An owner's router, [written from Flyte's documentation](../tests/passthrough/fifteen.py) by somebody
who had not read `passthrough/`. The naive code runs on the local Flyte. People with and without
rights call it, and attackers. `tests/passthrough/test_fifteen.py` makes these calls and generates
this page.

"""


def page() -> str:
    """Return docs/fifteen-endpoints.md."""
    titles = ["endpoint", *TITLES, "attempt", "outcome"]
    lines = [titles, ["---"] * len(titles)]
    for row in ROWS:
        lines.append([f"`{row.endpoint}`", *row.people.split(), row.tried, row.outcome])
    return INTRODUCTION + "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "regenerate it: see the top of this file"


@pytest.fixture(scope="module")
def names(local_flyte: LocalFlyte, greeting: str) -> dict[str, str]:
    """The runs in the rows, and the task with strange outputs."""
    local_flyte.deploy(FOLDER, "fifteen.py", "env")
    runs = {"failed": start("tests.count", to=0), "doomed": start("tests.count", to=100_000)}
    with acting_as("alice"):
        gifts = remote.Task.get(GIFTS, auto_version="latest")
        runs["gifts"] = flyte.with_runcontext("remote").run(gifts).name
    for run in ("failed", "gifts"):
        ended(runs[run])
    return {"run": greeting, **runs}


@pytest.fixture(scope="module")
def people(url: str) -> Iterator[list[httpx.Client]]:
    """Clients of the people in `WHO`."""
    with ExitStack() as stack:
        yield [stack.enter_context(client_of(url, who)) for who in WHO]


def status(client: httpx.Client, endpoint: str, body: Any) -> str:
    """Call an endpoint; abort the run that it starts, if any."""
    method, path = endpoint.split()
    if method == "WS":
        return socket_status(str(client.base_url) + path, client.headers.get("Authorization"))
    content = {"content": body} if isinstance(body, bytes) else {"json": body} if body else {}
    try:
        answer = client.request(method, path, **content)
    except httpx.RemoteProtocolError:
        return "cut"
    if answer.status_code == 200 and method == "POST" and not path.endswith(("run", "run-sync")):
        for run in [answer.json()] if isinstance(answer.json(), str) else answer.json() or []:
            client.post(f"/runs/{run}/abort")
    return str(answer.status_code)


def socket_status(address: str, credential: str | None) -> str:
    headers = {"Authorization": credential} if credential else {}
    url = address.replace("http", "ws", 1)
    try:
        with connect(url, additional_headers=headers, proxy=None, open_timeout=60) as websocket:
            websocket.recv()
            return "101"
    except InvalidStatus as error:
        return str(error.response.status_code)
    except ConnectionClosed as error:
        return str(error.rcvd and error.rcvd.code)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.endpoint)
def test_every_person_gets_the_expected_status(
    people: list[httpx.Client], names: dict[str, str], row: Row
) -> None:
    endpoint = row.endpoint.format(**names)
    with ThreadPoolExecutor(len(WHO)) as pool:
        found = pool.map(lambda client: status(client, endpoint, row.body), people)
    assert " ".join(found) == row.people


def test_concurrent_people_are_never_mixed_up_and_no_log_has_a_token(
    url: str, names: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    paths = ["/whoami", f"/runs/{names['run']}/result", "/projects", "/runs"]

    async def crowd() -> list[tuple[str | None, httpx.Response]]:
        limits = httpx.Limits(max_connections=40)
        async with httpx.AsyncClient(
            base_url=url, timeout=120, limits=limits, trust_env=False
        ) as client:

            async def ask(number: int) -> tuple[str | None, httpx.Response]:
                who = WHO[number % len(WHO)]
                headers = {"Authorization": bearer(who)} if who else {}
                path = paths[0] if number % 2 else paths[number // 2 % len(paths)]
                return who, await client.get(path, headers=headers)

            return await asyncio.gather(*map(ask, range(200)))

    sdk = logging.getLogger("flyte")
    level = sdk.level
    with caplog.at_level(logging.DEBUG):
        sdk.setLevel(logging.DEBUG)
        sdk.addHandler(caplog.handler)
        answers = asyncio.run(crowd())
        sdk.removeHandler(caplog.handler)
        sdk.setLevel(level)
    for who, answer in answers:
        assert answer.status_code in ({200, 403} if who in WHO[:4] else {401})
        if answer.url.path == "/whoami" and answer.status_code == 200:
            assert answer.json()["subject"] == PEOPLE[who or ""].subject
    assert len(caplog.records) > len(answers)
    assert not [each.name for each in PEOPLE.values() if each.token in caplog.text]


@pytest.mark.parametrize(
    ("path", "call"),
    [
        ("/projects", "ListProjects"),
        ("/tasks", "ListTasks"),
        ("/runs", "ListRuns"),
        ("/runs/{run}/actions", "ListActions"),
    ],
)
def test_a_flyte_that_hangs_or_fails_gives_an_error_until_it_is_back(
    *,
    alice: httpx.Client,
    short_timeout: httpx.Client,
    local_flyte: LocalFlyte,
    names: dict[str, str],
    path: str,
    call: str,
) -> None:
    path = path.format(**names)
    with local_flyte.hang(call):
        assert short_timeout.get(path).status_code == 504
    local_flyte.fail_next(call, Code.INTERNAL)
    assert alice.get(path).status_code == 502  # a short_timeout one may get a 504 on a busy machine
    local_flyte.fail_next(call, Code.UNAVAILABLE)
    wait_until(lambda: short_timeout.get(path).status_code == 200)


@pytest.mark.parametrize(
    "path", [f"/tasks/{GREET}/run", f"/tasks/{GREET}/run-sync", "/runs/{run}/again"]
)
def test_all_invalid_inputs_of_a_run_are_reported_at_once(
    alice: httpx.Client, names: dict[str, str], path: str
) -> None:
    path = path.format(**names)
    wrong = alice.post(path, json={"loud": 1, "excited": "very", "name": None})
    places = [error["location"][1] for error in wrong.json()["errors"]]
    assert (wrong.status_code, sorted(places)) == (422, ["excited", "loud", "name"])
    taken = "run_name" if path.startswith("/runs") else "task"
    assert alice.post(path, json={taken: 1}).status_code == 422


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ("POST /run-task/nowhere/development/tests.greet", 404),
        ("GET /runs/since/yesterday", 422),
        ("GET /runs/nosuch", 404),
        (f"GET /runs/{'x' * 5000}", 400),
    ],
)
def test_a_nonsensical_request_is_a_client_error(
    alice: httpx.Client, request_: str, expected: int
) -> None:
    assert alice.request(*request_.split(), json=ADA).status_code == expected


def test_a_large_file_is_refused(alice: httpx.Client) -> None:
    assert alice.post("/words", content=bytes(2 * 1024 * 1024)).status_code == 413


def test_values_that_a_stranger_stored_are_data(alice: httpx.Client, names: dict[str, str]) -> None:
    outputs = [
        {"kind": "pickle"},
        {"kind": "file", "uri": "file:///etc/passwd"},
        {"kind": "file", "uri": "http://169.254.169.254/latest"},
        {"kind": "too large"},
        "NaN",
    ]
    fifteen.UNPICKLED.unlink(missing_ok=True)
    run = names["gifts"]
    found = alice.get(f"/runs/{run}/io").json()["outputs"]
    assert alice.get(f"/runs/{run}/result").json() == found[0]
    for each in found[0], found[3]:
        assert each.pop("size") > 0
    assert found == outputs
    schema = alice.get(f"/tasks/{GIFTS}").json()["schema"]
    assert schema["type"] == "object"
    assert not fifteen.UNPICKLED.exists()


@pytest.mark.parametrize(
    ("path", "call"),
    [
        ("watch", "WatchActionDetails"),
        ("live", "WatchActionDetails"),
        ("logs", "TailLogs"),
        ("logs-sync", "TailLogs"),
        ("first-line", "TailLogs"),
    ],
)
def test_nothing_remains_when_viewers_leave(
    alice: httpx.Client, local_flyte: LocalFlyte, counting: str, path: str, call: str
) -> None:
    path = f"/runs/{counting}/{path}"
    if path.endswith("live"):
        assert socket_status(f"{alice.base_url}{path}", bearer("alice")) == "101"
    else:
        with alice.stream("GET", path) as answer:
            assert next(answer.iter_raw())
    wait_until(lambda: local_flyte.open_calls(call) == 0)


def test_a_request_does_not_last_as_long_as_its_run(short_timeout: httpx.Client) -> None:
    assert short_timeout.post(f"/tasks/{COUNT}/run", json={"to": 50}).status_code == 504


def test_refused_calls_are_explained_in_the_log(
    alice: httpx.Client, names: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    assert alice.post(f"/tasks/{GREET}/run-blocking", json=ADA).status_code == 500
    assert "make the endpoint a plain `def`" in caplog.text
    assert alice.get(f"/runs/{names['run']}/report").status_code == 500
    assert "report_address(action)" in caplog.text


def test_a_background_task_acts_as_its_caller_after_the_answer(alice: httpx.Client) -> None:
    run = alice.post("/later").json()
    alice.post(f"/runs/{run}/abort")
    wait_until(lambda: run in fifteen.ENDED)
    assert fifteen.ENDED[run] == "Alice Adams"


if __name__ == "__main__":
    PAGE.write_text(page())
