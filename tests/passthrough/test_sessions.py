"""Which address is called, and as whom."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from connectrpc.errors import ConnectError
from fastapi import APIRouter
from flyte import remote

from local_flyte import LocalFlyte, ReceivedCall
from local_flyte.testing import bearer, wait_until

from . import naive_endpoints
from .elsewhere import Elsewhere

pytestmark = pytest.mark.usefixtures("certificate")
router = APIRouter()
router.include_router(naive_endpoints.router)


Received = Callable[[], list[ReceivedCall]]


def ask(client: httpx.Client, run: str) -> list[int]:
    """Make every call for which Flyte may name another address: read data, read a log, run."""
    answers = (
        client.get(f"/runs/{run}/io"),
        client.get(f"/runs/{run}/log"),
        client.post("/count"),
    )
    return [answer.status_code for answer in answers]


@pytest.mark.parametrize("scheme", ["https://", "", "dns:///"])
def test_calls_to_the_address_that_flyte_names_share_a_connection(
    alice: httpx.Client, local_flyte: LocalFlyte, elsewhere: Elsewhere, greeting: str, scheme: str
) -> None:
    elsewhere.answers()
    with local_flyte.cluster_at(
        elsewhere.address.replace("https://127.0.0.1", f"{scheme}localhost")
    ):
        ask(alice, greeting)
    called = {call["path"].rpartition("/")[2] for call in elsewhere.received}
    assert called == {"GetActionData", "TailLogs", "UploadInputs"}
    assert {call["headers"]["authorization"] for call in elsewhere.received} == {bearer("alice")}
    assert len({call["client"] for call in elsewhere.received}) == 1


def test_nothing_is_sent_to_a_cluster_without_tls(
    *,
    alice: httpx.Client,
    local_flyte: LocalFlyte,
    plain: Elsewhere,
    greeting: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    plain.answers()
    with local_flyte.cluster_at(plain.address):
        assert ask(alice, greeting) == [502] * 3
    assert f"no credentials are sent to '{plain.address}'" in caplog.text
    assert plain.received == []


@pytest.mark.usefixtures("alice")  # her app has initialised the SDK
async def test_without_a_caller_nothing_is_sent(received: Received) -> None:
    with pytest.raises(ConnectError, match="there are no caller's credentials here"):
        await remote.User.get.aio()
    assert received() == []


def test_flytes_own_host_is_called_with_tls_whatever_scheme_flyte_names(
    alice: httpx.Client, local_flyte: LocalFlyte, greeting: str
) -> None:
    own = local_flyte.app_environment()["_U_EP_OVERRIDE"].rpartition("/")[2]
    with local_flyte.cluster_at(f"http://{own}"):
        assert ask(alice, greeting) == [200] * 3


def test_concurrent_callers_are_not_merged_and_share_no_cache(
    alice: httpx.Client,
    bob: httpx.Client,
    local_flyte: LocalFlyte,
    greeting: str,
    received: Received,
) -> None:
    with ThreadPoolExecutor(2) as threads:
        with local_flyte.hang("SelectCluster"):
            answers = [threads.submit(each.get, f"/runs/{greeting}/io") for each in (alice, bob)]
            wait_until(lambda: local_flyte.open_calls("SelectCluster") == 2)
        assert [answer.result().status_code for answer in answers] == [200, 200]
    alice.get(f"/runs/{greeting}/io")
    for method in ("SelectCluster", "GetActionData"):
        callers = [call.headers["authorization"] for call in received() if call.method == method]
        assert sorted(set(callers)) == sorted([bearer("alice"), bearer("bob")])
        assert callers.count(bearer("alice")) == 2 * callers.count(bearer("bob"))
