"""What leaves the app for Flyte: as whom, where to, and what is never told of it."""

import asyncio
import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from connectrpc.code import Code
from flyte import remote
from flyteidl2.common.identifier_pb2 import ActionIdentifier
from starlette.types import Receive, Scope, Send

from app.flyte_client import PAUSES, ROOT_ACTION, UNREADABLE, Flyte, connect, is_neighbour
from app.main import create_app
from app.settings import load_settings
from local_flyte import PEOPLE, LocalFlyte, ReceivedCall

from .support import TASKS, client_of, needs, run_task, serving, wait_until

KEY = "a-key-for-flyte-only"
ALICE, BOB = PEOPLE["alice"].token, PEOPLE["bob"].token
GREET = f"/tasks/{TASKS}.greet"


class Elsewhere:
    """A server that is not Flyte: it records what it is sent, and sends it on if it is told to."""

    def __init__(self) -> None:
        self.received: list[dict[bytes, bytes]] = []
        self.location = ""
        self.answer: bytes | None = None
        self.address = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        self.received.append(dict(scope["headers"]))
        headers = [(b"location", self.location.encode())] if self.location else []
        status = 307 if self.location else 404
        if self.answer is not None:
            headers, status = [(b"content-type", b"application/proto")], 200
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": self.answer or b""})


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates of an authority that the app trusts besides Flyte's."""
    folder, authority = tmp_path_factory.mktemp("elsewhere"), trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    server = authority.issue_cert("127.0.0.1")
    server.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    return folder


@pytest.fixture(scope="module")
def environment(environment: dict[str, str], certificates: Path) -> Iterator[dict[str, str]]:
    """An app that trusts the certificates of both, with a credential of its own making."""
    bundle = certificates / "bundle.pem"
    of_flyte = Path(os.environ.get("SSL_CERT_FILE", os.devnull))
    bundle.write_bytes(of_flyte.read_bytes() + b"\n" + (certificates / "ca.pem").read_bytes())
    changed = {"SSL_CERT_FILE": str(bundle), "CREDENTIAL_HEADERS": "x-api-key"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in changed.items():
            patch.setenv(name, value)
        yield environment | changed


@contextmanager
def elsewhere(certificates: Path, scheme: str) -> Iterator[Elsewhere]:
    """Serve somewhere that is not Flyte."""
    server, options = Elsewhere(), {}
    if scheme == "https":
        options["ssl_certfile"] = str(certificates / "server.pem")
    with serving(server, lifespan="off", **options) as url:  # type: ignore[arg-type]
        server.address = url.replace("http", scheme, 1)
        yield server


def ask(client: httpx.Client, run: dict[str, Any]) -> list[httpx.Response]:
    """Do all for which Flyte may name another place: read data, read a log, send inputs."""
    headers = {"X-Api-Key": KEY}
    return [
        client.get(f"/runs/{run['name']}/io", headers=headers),
        client.get(f"/runs/{run['name']}/logs", headers=headers),
        client.post(f"{GREET}/runs", json={"inputs": {"name": "Ada"}}, headers=headers),
    ]


@pytest.mark.steers_flyte
@needs(f"{GREET}/runs", "POST")
@needs("/runs/x/logs")
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_data_that_is_said_to_be_elsewhere_is_not_asked_for_there(
    alice: httpx.Client,
    local_flyte: LocalFlyte,
    certificates: Path,
    greeting: dict[str, Any],
    scheme: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with elsewhere(certificates, scheme) as server, local_flyte.cluster_at(server.address):
        assert [response.status_code for response in ask(alice, greeting)] == [502] * 3
        assert server.received == []
        assert server.address in caplog.text
        assert "FLYTE_DATA_ADDRESSES" in caplog.text


@pytest.mark.steers_flyte
@needs(f"{GREET}/runs", "POST")
@needs("/runs/x/logs")
@pytest.mark.parametrize(
    "address", ["https://[", "[", "dns:///", "ftp://127.0.0.1", "//", "?", " "]
)
def test_data_that_is_said_to_be_nowhere_is_a_fault_of_flytes(
    alice: httpx.Client, local_flyte: LocalFlyte, greeting: dict[str, Any], address: str
) -> None:
    with local_flyte.cluster_at(address):
        assert [response.status_code for response in ask(alice, greeting)] == [502] * 3


@pytest.mark.parametrize(
    ("flyte", "address", "is_one"),
    [
        ("https://flyte.acme.example", "https://cluster-2.acme.example", True),
        ("https://flyte.acme.example:443", "https://cluster-2.acme.example:443/", True),
        ("https://flyte.acme.example", "https://a.b.acme.example", True),
        ("https://flyte.acme.example", "http://cluster-2.acme.example", False),
        ("https://flyte.acme.example", "https://cluster-2.acme.example:8443", False),
        ("https://flyte.acme.example", "https://acme.example", False),
        ("https://flyte.acme.example", "https://evil-acme.example", False),
        ("https://flyte.acme.example", "https://acme.example.evil.example", False),
        ("https://flyte.acme.example", "https://cluster-2.acme.example@evil.example", False),
        ("https://flyte.acme.example", "https://evil.example/.acme.example", False),
        ("https://flyte.acme.example", "https://evil.example#.acme.example", False),
        ("https://flyte.acme.example", "https://clusterXacmeXexample", False),
        ("https://acme.example", "https://evil.example", False),
        ("https://flyte.co.uk", "https://evil.co.uk", False),
        ("https://localhost", "https://evil.localhost", False),
        ("https://10.0.0.1", "https://11.0.0.1", False),
    ],
)
def test_only_hosts_in_the_domain_of_flyte_may_keep_its_data(
    flyte: str, address: str, is_one: bool
) -> None:
    assert is_neighbour(address, flyte) is is_one


@pytest.mark.steers_flyte
@needs(f"{GREET}/runs", "POST")
@needs("/runs")
def test_data_of_a_cluster_that_the_settings_name_is_asked_for_there_if_it_has_tls(
    local_flyte: LocalFlyte,
    certificates: Path,
    environment: dict[str, str],
    greeting: dict[str, Any],
) -> None:
    for written, is_asked in (("https://", 1), ("dns:///", 1), ("", 1), ("http://", 0)):
        with ExitStack() as stack:
            scheme = "http" if written == "http://" else "https"
            server = stack.enter_context(elsewhere(certificates, scheme))
            named = load_settings().model_copy(update={"flyte_data_addresses": (server.address,)})
            url = stack.enter_context(serving(create_app(named)))
            client = stack.enter_context(client_of(url, "alice"))
            address = server.address.replace(f"{scheme}://", written)
            stack.enter_context(local_flyte.cluster_at(address))
            ask(client, greeting)
            assert bool(server.received) == is_asked
            assert all(each[b"x-api-key"] == KEY.encode() for each in server.received)


@pytest.mark.steers_flyte
@needs(f"{GREET}/runs", "POST")
@needs("/runs/x/logs")
@pytest.mark.parametrize("scheme", ["http://", "https://", "dns:///", ""])
def test_flytes_own_address_is_called_over_tls_however_it_is_written(
    alice: httpx.Client, local_flyte: LocalFlyte, greeting: dict[str, Any], scheme: str
) -> None:
    with local_flyte.cluster_at(local_flyte.endpoint.replace("dns:///", scheme)):
        assert [response.status_code for response in ask(alice, greeting)] == [200, 200, 201]


@needs("/projects")
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_redirect_is_not_followed(
    certificates: Path, environment: dict[str, str], scheme: str
) -> None:
    with (
        elsewhere(certificates, scheme) as server,
        elsewhere(certificates, "https") as flyte,
    ):
        flyte.location = f"{server.address}/sign-in"
        settings = load_settings().model_copy(update={"flyte_endpoint": flyte.address})
        with serving(create_app(settings)) as url, client_of(url, "alice") as client:
            assert client.get("/projects", headers={"X-Api-Key": KEY}).status_code == 502
        assert flyte.received[0][b"x-api-key"] == KEY.encode()
        assert server.received == []
    asyncio.run(connect(load_settings()))  # the SDK has one connection in each process


@needs("/projects")
def test_what_cannot_be_read_is_asked_for_once_and_said_to_be_so(
    certificates: Path, environment: dict[str, str]
) -> None:
    with elsewhere(certificates, "https") as flyte:
        settings = load_settings().model_copy(update={"flyte_endpoint": flyte.address})
        with serving(create_app(settings)) as url, client_of(url, "alice") as client:
            flyte.answer = b"\xff"  # protobuf says the same of what is nested over 100 levels
            response = client.get("/projects")
        assert response.status_code == 422
        assert response.json()["detail"] == UNREADABLE
        assert len(flyte.received) == 1
    asyncio.run(connect(load_settings()))  # the SDK has one connection in each process


@pytest.mark.steers_flyte
@needs("/runs")
def test_what_is_unavailable_is_asked_for_four_times(
    alice: httpx.Client, local_flyte: LocalFlyte, received: Callable[[], list[ReceivedCall]]
) -> None:
    local_flyte.fail_next("ListRuns", Code.UNAVAILABLE, times=100)
    assert alice.get("/runs").status_code == 503
    local_flyte.fail_next("ListRuns", Code.UNAVAILABLE, times=0)
    assert len([call for call in received() if call.method == "ListRuns"]) == len(PAUSES) + 1 == 4


@pytest.mark.steers_flyte
@needs("/runs")
def test_concurrent_callers_are_not_merged(
    alice: httpx.Client,
    bob: httpx.Client,
    local_flyte: LocalFlyte,
    greeting: dict[str, Any],
    received: Callable[[], list[ReceivedCall]],
) -> None:
    path = f"/runs/{greeting['name']}/io"
    with ThreadPoolExecutor(2) as threads:
        with local_flyte.hang("SelectCluster"):
            answers = [threads.submit(client.get, path) for client in (alice, bob)]
            wait_until(lambda: local_flyte.open_calls("SelectCluster") == 2)
        assert [answer.result().status_code for answer in answers] == [200, 200]
    for method in ("SelectCluster", "GetActionData"):
        callers = {call.headers["authorization"] for call in received() if call.method == method}
        assert callers == {f"Bearer {ALICE}", f"Bearer {BOB}"}


@pytest.mark.steers_flyte
@pytest.mark.parametrize("code", Code)
@pytest.mark.parametrize(
    ("path", "rpc"),
    [
        pytest.param("/me", "UserInfo", marks=needs("/me")),
        pytest.param("/runs/{run}/io", "SelectCluster", marks=needs("/runs")),
        pytest.param("/runs/{run}/events", "WatchActionDetails", marks=needs("/runs/x/events")),
        pytest.param("/runs/{run}/logs", "TailLogs", marks=needs("/runs/x/logs")),
    ],
)
def test_an_error_that_quotes_a_credential_is_neither_told_nor_logged(
    hurried: httpx.Client,
    local_flyte: LocalFlyte,
    greeting: dict[str, Any],
    path: str,
    rpc: str,
    code: Code,
    caplog: pytest.LogCaptureFixture,
) -> None:
    said = f"no such thing for Bearer {ALICE[:20]}, nor for {KEY}"
    local_flyte.fail_next(rpc, code, times=20, message=said)
    sdk = logging.getLogger("flyte")  # keeps what it logs from the root logger
    with caplog.at_level(logging.DEBUG), caplog.at_level(logging.DEBUG, sdk.name):
        sdk.addHandler(caplog.handler)
        response = hurried.get(path.format(run=greeting["name"]), headers={"X-Api-Key": KEY})
        sdk.removeHandler(caplog.handler)
    local_flyte.fail_next(rpc, code, times=0)
    for secret in (KEY, ALICE[:20]):
        assert secret not in response.text
        assert secret not in caplog.text


@pytest.mark.reads_what_flyte_received
@needs(f"{GREET}/runs", "POST")
def test_a_run_is_started_as_the_sdk_would_start_it(
    alice: httpx.Client, local_flyte: LocalFlyte
) -> None:
    """By the same calls with the same contents, but for the name."""
    local_flyte.clear_calls()
    theirs = run_task(alice, "greet", name="Ada")
    # The SDK remembers which cluster it was sent to, whoever asked; the app asks each time.
    calls = [call.method for call in local_flyte.calls if call.method != "SelectCluster"]
    local_flyte.clear_calls()
    ours = alice.post(f"{GREET}/runs", json={"inputs": {"name": "Ada"}}).json()
    methods = [call.method for call in local_flyte.calls]
    methods.remove("SelectCluster")
    assert methods == calls

    flyte = Flyte(load_settings())
    shown = []
    for name in (theirs["name"], ours["name"]):
        with remote.auth_metadata(("authorization", f"Bearer {ALICE}")):
            details = remote.RunDetails.get(name=name).pb2
            action = ActionIdentifier(run=details.action.id.run, name=ROOT_ACTION)
            data = asyncio.run(flyte.get_action_data(action))
        shown.append((details.run_spec, details.action.metadata.task, data.inputs))
    assert shown[0] == shown[1]
