"""The rows of ``docs/values.md``: each is true."""

import json
from pprint import pformat
from typing import Annotated

import httpx
import pytest
from fastapi import APIRouter, Body
from flyte.types import TypeEngine
from flyteidl2.core.literals_pb2 import Literal

from passthrough.dependencies import Inputs, RequestBody
from passthrough.values import to_json, to_literals, translated

from ..value_table import PAGE, REFUSED, ROWS, Row, page
from .support import as_a_task_reads

router = APIRouter()


class Given(RequestBody):
    inputs: Inputs


@router.post("/rows/{number}")
async def translate(number: int, given: Annotated[Given, Body()]) -> dict[str, str]:
    """Return an input as it is stored, in hexadecimal digits."""
    kinds = {"value": TypeEngine.to_literal_type(ROWS[number].kind)}
    made = await translated(lambda budget: to_literals(given.inputs, kinds, (), budget))
    return {"stored": made["value"].SerializeToString(deterministic=True).hex()}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.called} {row.sent}")
def test_a_value_is_refused_or_arrives_and_is_shown_as_the_page_says(
    alice: httpx.Client, row: Row
) -> None:
    body = f'{{"inputs": {{"value": {row.sent}}}}}'
    headers = {"Content-Type": "application/json"}
    answer = alice.post(f"/rows/{ROWS.index(row)}", content=body, headers=headers)
    if isinstance(row.received, str) and row.received.startswith(REFUSED):
        assert answer.status_code == 422
        assert row.received.removeprefix(REFUSED) in answer.json()["errors"][0]["detail"]
        return
    assert answer.status_code == 200, answer.text
    literal = Literal.FromString(bytes.fromhex(answer.json()["stored"]))
    assert pformat(as_a_task_reads(literal, row.kind)) == pformat(row.received)  # sorted
    assert json.dumps(to_json([("value", literal)])["value"]) == json.dumps(
        json.loads(row.shown or row.sent)
    )


def test_the_page_has_the_table_of_these_rows() -> None:
    assert page() == PAGE.read_text("utf-8"), "run python -m tests.value_table"
