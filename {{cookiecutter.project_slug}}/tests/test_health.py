"""GET /health and /ready: for the platform, without credentials."""

import asyncio
from collections.abc import Callable

import httpx
import pytest

from local_flyte import PEOPLE, LocalFlyte, ReceivedCall

from .support import wait_until


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


@pytest.mark.reads_what_flyte_received
def test_many_probes_make_one_anonymous_call(
    app_url: str, received: Callable[[], list[ReceivedCall]]
) -> None:
    assert {response.status_code for response in asyncio.run(crowd(app_url))} == {200}
    calls = [call for call in received() if call.method == "UserInfo"]
    assert len(calls) <= 2  # two, if a second had just ended
    assert not any("authorization" in call.headers for call in calls)


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
