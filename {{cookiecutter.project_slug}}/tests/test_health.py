"""GET /health and /ready: for the platform, without credentials."""

import httpx
import pytest

from local_flyte import LocalFlyte


def test_health_and_readiness_need_no_credentials(anonymous: httpx.Client) -> None:
    assert anonymous.get("/health").json() == {"status": "ok"}
    assert anonymous.get("/ready").json() == {"status": "ok"}


@pytest.mark.local_flyte
def test_readiness_fails_when_flyte_does_not_answer(
    hurried: httpx.Client, local_flyte: LocalFlyte
) -> None:
    with local_flyte.hang("UserInfo"):
        assert hurried.get("/ready").status_code == 504
        assert hurried.get("/health").status_code == 200
    assert hurried.get("/ready").status_code == 200
