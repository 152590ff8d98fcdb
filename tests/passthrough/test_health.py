"""GET /health and /ready, which the platform calls without credentials."""

import asyncio
from collections.abc import Callable

import httpx
import pytest
from connectrpc.code import Code
from fastapi import APIRouter

from local_flyte import PEOPLE, LocalFlyte, ReceivedCall
from passthrough.requests import health

from .support import build_app, client_of, serving, wait_until

router = APIRouter()


def test_readiness_fails_when_flyte_does_not_answer(
    hurried: httpx.Client, local_flyte: LocalFlyte
) -> None:
    with local_flyte.hang("UserInfo"), client_of(str(hurried.base_url), None) as anonymous:
        assert anonymous.get("/ready").status_code == 504
        assert anonymous.get("/health").json() == {"status": "ok"}
    wait_until(lambda: hurried.get("/ready").status_code == 200)  # once it asks again


async def crowd(url: str) -> list[httpx.Response]:
    """Send fifty requests at once, one of them with credentials."""
    headers = {"Authorization": f"Bearer {PEOPLE['alice'].token}"}
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60) as client:
        requests = [client.get("/ready", headers=headers if i == 0 else {}) for i in range(50)]
        return await asyncio.gather(*requests)


@pytest.mark.parametrize(
    ("answer", "status"),
    [(None, 200), (Code.UNAUTHENTICATED, 200), (Code.UNAVAILABLE, 503), (Code.INTERNAL, 502)],
)
def test_many_probes_make_one_anonymous_call(
    local_flyte: LocalFlyte,
    received: Callable[[], list[ReceivedCall]],
    answer: Code | None,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health, "INTERVAL", 3600.0)
    monkeypatch.setattr(health, "LONGEST", 30.0)  # a busy machine
    if answer:
        local_flyte.fail_next("UserInfo", answer, times=100)
    with serving(build_app(router)) as url:
        for _ in range(2):
            assert {response.status_code for response in asyncio.run(crowd(url))} == {status}
    local_flyte.fail_next("UserInfo", Code.INTERNAL, times=0)
    calls = [call for call in received() if call.method == "UserInfo"]
    assert len(calls) == 1
    assert "authorization" not in calls[0].headers


def test_a_probe_that_disconnects_does_not_cancel_the_others(
    local_flyte: LocalFlyte,
    received: Callable[[], list[ReceivedCall]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health, "INTERVAL", 3600.0)
    monkeypatch.setattr(health, "LONGEST", 30.0)

    async def probe(url: str) -> httpx.Response:
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60) as client:
            with local_flyte.hang("UserInfo"):
                leaving = asyncio.create_task(client.get("/ready"))
                await asyncio.to_thread(wait_until, received)
                staying = asyncio.create_task(client.get("/ready"))
                await asyncio.sleep(0.2)
                leaving.cancel()
            return await staying

    with serving(build_app(router)) as url:
        assert asyncio.run(probe(url)).status_code == 200
    assert len(received()) == 1


def test_probes_leave_no_open_calls_when_flyte_hangs(
    hurried: httpx.Client, local_flyte: LocalFlyte, caplog: pytest.LogCaptureFixture
) -> None:
    with local_flyte.hang("UserInfo"):
        wait_until(lambda: hurried.get("/ready").status_code == 504)
        answers = asyncio.run(crowd(str(hurried.base_url)))
        assert {response.status_code for response in answers} == {504}
        wait_until(lambda: local_flyte.open_calls("UserInfo") == 0)
    assert caplog.text.count("GET '/ready': status 504") < 10  # not one for each probe
