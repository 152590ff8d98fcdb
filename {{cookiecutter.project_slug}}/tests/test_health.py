"""GET /health and /ready: for the platform, without credentials."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from connectrpc.code import Code

from app.main import create_app
from app.routers import health
from app.settings import load_settings
from local_flyte import PEOPLE, LocalFlyte, ReceivedCall

from .support import serving, wait_until


def test_health_and_readiness_need_no_credentials(anonymous: httpx.Client) -> None:
    assert anonymous.get("/health").json() == {"status": "ok"}
    assert anonymous.get("/ready").json() == {"status": "ok"}


@pytest.mark.steers_flyte
def test_readiness_fails_when_flyte_does_not_answer(
    hurried: httpx.Client, local_flyte: LocalFlyte
) -> None:
    with local_flyte.hang("UserInfo"):
        assert hurried.get("/ready").status_code == 504
        assert hurried.get("/health").status_code == 200
    wait_until(lambda: hurried.get("/ready").status_code == 200)  # once it asks again


async def crowd(url: str) -> list[httpx.Response]:
    """Have fifty ask at once, one of them with credentials."""
    headers = {"Authorization": f"Bearer {PEOPLE['alice'].token}"}
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60) as client:
        requests = [client.get("/ready", headers=headers if i == 0 else {}) for i in range(50)]
        return await asyncio.gather(*requests)


@pytest.mark.steers_flyte
@pytest.mark.parametrize(
    ("answer", "status"),
    [(None, 200), (Code.UNAUTHENTICATED, 200), (Code.UNAVAILABLE, 503), (Code.INTERNAL, 502)],
)
def test_many_probes_make_one_anonymous_call(
    environment: dict[str, str],
    local_flyte: LocalFlyte,
    received: Callable[[], list[ReceivedCall]],
    answer: Code | None,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert health.INTERVAL >= 1
    monkeypatch.setattr(health, "INTERVAL", 3600.0)
    if answer:
        local_flyte.fail_next("UserInfo", answer, times=100)
    with serving(create_app(load_settings())) as url:
        for _ in range(2):
            assert {response.status_code for response in asyncio.run(crowd(url))} == {status}
    local_flyte.fail_next("UserInfo", Code.INTERNAL, times=0)
    calls = [call for call in received() if call.method == "UserInfo"]
    assert len(calls) == 1
    assert "authorization" not in calls[0].headers


def test_a_probe_that_leaves_takes_no_other_along() -> None:
    calls = 0

    async def user_info(_: Any) -> None:
        nonlocal calls
        calls += 1
        asked.set()
        await answered.wait()

    async def probe() -> None:
        request: Any = None
        flyte: Any = SimpleNamespace(probe=SimpleNamespace(user_info=user_info), timeout=60.0)
        readiness = health.Readiness()
        leaving = asyncio.create_task(readiness.problem(request, flyte))
        staying = asyncio.create_task(readiness.problem(request, flyte))
        await asked.wait()
        leaving.cancel()
        await asyncio.wait({leaving})
        answered.set()
        assert await staying is None

    asked, answered = asyncio.Event(), asyncio.Event()
    asyncio.run(probe())
    assert calls == 1


@pytest.mark.steers_flyte
def test_probes_leave_no_open_calls_when_flyte_hangs(
    hurried: httpx.Client, local_flyte: LocalFlyte, caplog: pytest.LogCaptureFixture
) -> None:
    with local_flyte.hang("UserInfo"):
        wait_until(lambda: hurried.get("/ready").status_code == 504)
        answers = asyncio.run(crowd(str(hurried.base_url)))
        assert {response.status_code for response in answers} == {504}
        wait_until(lambda: local_flyte.open_calls("UserInfo") == 0)
    assert caplog.text.count("GET '/ready': status 504") < 10  # not one for each who asks
