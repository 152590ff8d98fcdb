"""Endpoints as in Flyte's documentation: their inputs, their outputs, and their caller.

Each row of ``docs/values.md`` is true.
"""

import json
from collections.abc import Callable
from pprint import pformat
from typing import Annotated, Any

import flyte
import httpx
import pytest
from fastapi import APIRouter, Body
from flyte import remote
from flyte.types import TypeEngine
from flyteidl2.core.literals_pb2 import Literal

from local_flyte import LocalFlyte, ReceivedCall
from local_flyte.testing import bearer
from passthrough.dependencies import Inputs, ProjectDomain, RequestBody
from passthrough.values import to_json, to_literals, translated

from ..value_table import PAGE, ROWS, Row, page
from . import naive_endpoints
from .support import as_a_task_reads

Received = Callable[[], list[ReceivedCall]]
router = APIRouter()
router.include_router(naive_endpoints.router)

GREET = remote.Task.get("tests.greet", auto_version="latest")
"""At module level, for all callers."""


@router.post("/greet")
async def run_the_module_level_task() -> str:
    return (await flyte.run.aio(GREET, name="Ada")).name


@router.post("/positional")
async def run_it_without_names() -> str:
    return (await flyte.run.aio(GREET, "Ada")).name


@router.post("/greet/for/{name}")
async def fetch_the_task_for_somebody_else_too(name: str) -> None:
    await GREET.fetch.aio()
    with remote.auth_metadata(("authorization", bearer(name))):
        await GREET.fetch.aio()


@router.post("/greet/override")
async def run_it_overridden() -> str:
    task = GREET.override.aio(short_name="salutation")
    return (await flyte.run.aio(await task, name="Ada")).name


class Given(RequestBody):
    inputs: Inputs


@router.post("/rows/{number}")
async def translate(number: int, given: Annotated[Given, Body()]) -> dict[str, str]:
    """Return an input as it is stored, in hexadecimal digits."""
    kinds = {"value": TypeEngine.to_literal_type(ROWS[number].kind)}
    made = await translated(lambda budget: to_literals(given.inputs, kinds, (), budget))
    return {"stored": made["value"].SerializeToString(deterministic=True).hex()}


@router.get("/{project}/{domain}/where", dependencies=[ProjectDomain])
async def where(project: str, domain: str) -> list[str | None]:
    return [project, domain, flyte.current_project(), flyte.current_domain()]


def test_inputs_and_outputs_are_json_with_their_declared_names(alice: httpx.Client) -> None:
    run = alice.post("/tasks/tests.split/run", json={"text": "Ada"}).json()
    assert run["outputs"] == {"result": "A", "pb2": 3}
    data = {"inputs": {"text": "Ada"}, "outputs": [3, "A"]}  # Flyte sorts them by name
    assert alice.get(f"/runs/{run['name']}/io").json() == data


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.called} {row.sent}")
def test_a_value_is_refused_or_arrives_and_is_shown_as_the_page_says(
    alice: httpx.Client, row: Row
) -> None:
    body = f'{{"inputs": {{"value": {row.sent}}}}}'
    headers = {"Content-Type": "application/json"}
    answer = alice.post(f"/rows/{ROWS.index(row)}", content=body, headers=headers)
    if row.refusal:
        assert answer.status_code == 422
        assert row.refusal in answer.json()["errors"][0]["detail"]
        return
    assert answer.status_code == 200, answer.text
    literal = Literal.FromString(bytes.fromhex(answer.json()["stored"]))
    assert pformat(as_a_task_reads(literal, row.kind)) == pformat(row.received)  # sorted
    assert json.dumps(to_json([("value", literal)])["value"]) == json.dumps(
        json.loads(row.shown or row.sent)
    )


def test_the_page_has_the_table_of_these_rows() -> None:
    assert page() == PAGE.read_text("utf-8"), "run python -m tests.value_table"


@pytest.mark.parametrize(
    ("path", "inputs", "wrong"),
    [
        ("/tasks/tests.greet/run", {"excited": 1, "loud": True}, [["loud"], ["name"], ["excited"]]),
        ("/runs/{run}/again", {"inputs": 1, "name": "Bob"}, [[]]),  # named in the text
    ],
)
def test_all_invalid_inputs_are_reported_at_once_with_their_locations(
    alice: httpx.Client, greeting: str, path: str, inputs: dict[str, Any], wrong: Any
) -> None:
    answer = alice.post(path.format(run=greeting), json=inputs)
    assert answer.status_code == 422, answer.text
    found = [error["location"] for error in answer.json()["errors"]]
    assert sorted(found) == sorted(["inputs", *location] for location in wrong)


def test_inputs_without_names_are_refused(alice: httpx.Client) -> None:
    assert alice.post("/positional").status_code == 500


def test_a_task_at_module_level_is_fetched_by_each_caller(
    alice: httpx.Client, bob: httpx.Client, received: Received
) -> None:
    for path in ("/greet", "/greet/override"):
        for client in (alice, bob, alice):
            assert client.post(path).status_code == 200
    for method in ("GetTaskDetails", "CreateRun"):
        callers = [call.headers["authorization"] for call in received() if call.method == method]
        assert callers == [bearer("alice"), bearer("bob"), bearer("alice")] * 2


def test_a_task_is_fetched_again_for_somebody_else_in_the_same_request(alice: httpx.Client) -> None:
    assert alice.post("/greet/for/bob").status_code == 200
    assert alice.post("/greet/for/carol").status_code == 403


def test_the_project_and_the_domain_are_those_of_the_query_or_the_apps(
    alice: httpx.Client, local_flyte: LocalFlyte
) -> None:
    asked = {"project": "two", "domain": "second"}
    own = {"project": local_flyte.project, "domain": local_flyte.domain}
    for query in (asked, {}):
        called = (own | query).values()
        assert alice.get("/a/b/where", params=query).json() == ["a", "b", *called]
