"""Problems made of odd exceptions, and settings that hold a credential by mistake."""

import httpx
import pytest
from fastapi import APIRouter, HTTPException

from passthrough.settings import Settings, SettingsError, load_settings

router = APIRouter()


class UpstreamError(Exception):
    """An HTTP client's error, with the headers of the server that it called."""

    headers = {"set-cookie": "session=theirs", "content-length": "3"}  # noqa: RUF012


@router.get("/upstream")
async def upstream() -> None:
    raise UpstreamError


@router.get("/loop")
async def loop() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    raise first


@router.post("/echo")
async def echo(body: dict[str, int]) -> dict[str, int]:
    raise HTTPException(404, f"there is no {next(iter(body))}")


@router.get("/status/{status}")
async def status_of_their_own(status: int) -> None:
    raise HTTPException(status, "odd")


@pytest.mark.parametrize("status", [-1, 0, 99, 100, 101, 600, 1000])
def test_a_status_that_http_does_not_have_is_a_fault(alice: httpx.Client, status: int) -> None:
    answer = alice.get(f"/status/{status}")
    assert (answer.status_code, answer.json()["status"]) == (500, 500)


def test_the_headers_of_another_servers_response_are_not_passed_on(alice: httpx.Client) -> None:
    answer = alice.get("/upstream")
    assert (answer.status_code, answer.json()["status"]) == (500, 500)
    assert "set-cookie" not in answer.headers


def test_causes_that_form_a_loop_are_reported(alice: httpx.Client) -> None:
    assert alice.get("/loop").json()["title"] == "Internal Server Error"


@pytest.mark.parametrize(("number", "status"), [(1, 404), ("x", 422)])
def test_a_problem_may_quote_text_that_is_not_unicode(
    alice: httpx.Client, number: object, status: int
) -> None:
    content = f'{{"\\ud800": "{number}"}}'
    answer = alice.post("/echo", content=content, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["status"]) == (status, status)


@pytest.mark.parametrize("value", ["a1B2" * 30, "https://flyte.example.com/?token=a1B2"])
def test_a_credential_instead_of_an_address_is_not_shown(value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(Settings, {"FLYTE_ENDPOINT": value})
    assert "FLYTE_ENDPOINT: is not the address" in str(caught.value)
    assert "a1B2" not in str(caught.value)
