"""Tests of dependencies: deadlines, request bodies and times in queries."""

import asyncio

import httpx
import pytest
from fastapi import APIRouter
from pydantic import TypeAdapter, ValidationError

from passthrough.dependencies import QueryTime, RequestBody, deadline

router = APIRouter()


@router.get("/patient", dependencies=[deadline(60)])
@router.get("/default")
async def wait_longer_than_flyte_may_take_twice() -> str:
    await asyncio.sleep(2.5)
    return "responded"


@router.get("/impatient", dependencies=[deadline(0.2)])
async def wait_forever() -> None:
    await asyncio.Event().wait()


def test_deadline_of_an_endpoint_replaces_flyte_timeout(
    alice: httpx.Client, short_timeout: httpx.Client
) -> None:
    assert short_timeout.get("/default").status_code == 504
    assert short_timeout.get("/patient").json() == "responded"
    assert alice.get("/impatient").json()["code"] == "deadline"


class Numbers(RequestBody):
    numbers: list[int]


def test_number_of_unknown_key_errors_is_limited() -> None:
    with pytest.raises(ValidationError) as refused:
        Numbers.model_validate({f"key{number}": 1 for number in range(20_000)})
    assert refused.value.error_count() == 102


@pytest.mark.parametrize("text", ["0.5", "1700000000", "20260131", "2026-01-31"])
def test_time_parameter_that_is_no_datetime_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="such as 2026-01-31T09:30:00Z"):
        TypeAdapter(QueryTime).validate_python(text)
    assert TypeAdapter(QueryTime).validate_python("2026-01-31T09:30:00+02:00").tzinfo
