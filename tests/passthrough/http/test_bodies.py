"""Bodies whose JSON is refused although Python reads it."""

from typing import Any

import httpx
import pytest
from fastapi import APIRouter

from passthrough.dependencies import RequestBody

router = APIRouter()


class Given(RequestBody):
    values: list[Any]


@router.post("/length")
async def length(given: Given) -> int:
    return len(given.values)


@pytest.mark.parametrize(
    ("values", "wrong"),
    [
        ("[-1e400, {}]", "-1e400 is no number"),
        ("[NaN]", "NaN is no number"),
        ('[{"a": 1, "\\u0061": 2}]', "an object in the JSON has the key 'a' twice"),
    ],
)
def test_what_json_does_not_have_is_refused(alice: httpx.Client, values: str, wrong: str) -> None:
    kind = {"Content-Type": "application/json"}
    answer = alice.post("/length", content=f'{{"values": {values}}}', headers=kind)
    assert answer.status_code == 422
    problem = answer.json()
    assert wrong in problem.get("errors", [problem])[0]["detail"]
