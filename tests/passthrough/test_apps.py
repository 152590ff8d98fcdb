"""Calling another app as the caller: where credentials are sent, and where not."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from connectrpc.errors import ConnectError
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import RedirectResponse, StreamingResponse
from flyte import remote
from flyteidl2.app import app_definition_pb2

from local_flyte import LocalFlyte
from local_flyte.testing import bearer, client_of, serving, wait_until
from passthrough.calls.other_apps import call_app
from passthrough.calls.request_calls import request_calls

from .support import build_app

router = APIRouter()


def app_at(address: str) -> remote.App:
    """Make an app, as if Flyte had returned this address for it."""
    app = app_definition_pb2.App()
    app.metadata.id.name = "other"
    app.status.ingress.public_url = address
    return remote.App(app)


OWN = {"Authorization": "Bearer of-nobody", "X-Own": "1"}


@router.post("/call")
async def call(address: str, path: str) -> dict[str, Any]:
    options = {"content": {"one": 1}, "params": {"two": "2"}, "headers": OWN}
    answer = await call_app(app_at(address), "POST", path, **options)
    return {"status": answer.status, "body": answer.json()}


stray: list[asyncio.Task[Any]] = []


@router.post("/later")
async def call_later(address: str) -> None:
    async def call() -> None:
        with suppress(asyncio.CancelledError), request_calls().include():
            await asyncio.Event().wait()  # until the request ends
        await call_app(app_at(address), "POST", "/echo", content={})

    stray.append(asyncio.create_task(call()))


@router.post("/thread")
def call_in_a_thread(address: str) -> str | None:
    def call() -> None:
        try:
            asyncio.run(call_app(app_at(address), "POST", "/echo", content={}))
        except ConnectError as error:
            said.append(error.message)

    said: list[str] = []
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    return said[0] if said else None


class Other:
    """An app that records its requests."""

    def __init__(self) -> None:
        self.received: list[Request] = []
        self.left = False
        self.app = FastAPI()
        self.app.post("/echo")(self.echo)
        self.app.post("/elsewhere")(self.elsewhere)
        self.app.post("/hang")(self.hang)
        self.app.post("/large")(self.large)
        self.app.post("/endless")(self.endless)

    async def echo(self, request: Request) -> dict[str, Any]:
        self.received.append(request)
        return {
            "authorization": request.headers.getlist("authorization"),
            "own": request.headers["x-own"],
            "query": str(request.query_params),
            "json": await request.json(),
        }

    async def elsewhere(self) -> RedirectResponse:
        return RedirectResponse("/echo")

    async def hang(self, request: Request) -> None:
        self.received.append(request)
        while (await request.receive())["type"] != "http.disconnect":
            pass
        self.left = True

    async def large(self) -> str:
        return "x" * 9_000_000

    async def endless(self) -> StreamingResponse:
        async def messages() -> AsyncIterator[bytes]:
            for _ in range(100):  # 10 MB
                yield (b"\0" + (1000).to_bytes(4) + b"x" * 1000) * 100

        return StreamingResponse(messages(), media_type="application/connect+json")


@pytest.fixture
def other(
    local_flyte: LocalFlyte, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Other, str]]:
    """The other app, with TLS, on the same host as Flyte."""
    authority, other = trustme.CA(), Other()
    trusted, certificate = tmp_path / "ca.pem", tmp_path / "server.pem"
    trusted.write_bytes(local_flyte.ca_file.read_bytes() + authority.cert_pem.bytes())
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    with serving(other.app, ssl_certfile=str(certificate)) as url:
        yield other, url


def test_another_app_is_called_as_the_caller_whatever_headers_the_endpoint_sets(
    alice: httpx.Client, bob: httpx.Client, other: tuple[Other, str]
) -> None:
    for client, name in ((alice, "alice"), (bob, "bob")):
        answer = client.post("/call", params={"address": other[1], "path": "/echo"}).json()
        body = {"authorization": [bearer(name)], "own": "1", "query": "two=2", "json": {"one": 1}}
        assert answer == {"status": 200, "body": body}


@pytest.mark.parametrize("port", ["99999", "9" * 30])
def test_an_address_with_an_impossible_port_is_a_fault_of_flyte(
    alice: httpx.Client, port: str, caplog: pytest.LogCaptureFixture
) -> None:
    query = {"address": f"https://127.0.0.1:{port}", "path": "/echo?x=private"}
    assert alice.post("/call", params=query).status_code == 502
    assert f"127.0.0.1:{port}' cannot be called" in caplog.text
    assert "private" not in caplog.text


def test_a_redirect_is_not_followed(alice: httpx.Client, other: tuple[Other, str]) -> None:
    alice.post("/call", params={"address": other[1], "path": "/elsewhere"})
    assert other[0].received == []


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:{port}",
        "https://localhost:{port}",
        "https://127.0.0.1:{port}@example.com",
        "https://x@127.0.0.1:{port}",
        "https://127.0.0.1.example.com",
        # By WHATWG's rules, which the transport has, "\\" ends the host; by Python's it does not.
        "https://:@localhost:{port}\\@127.0.0.1",
        " https://127.0.0.1:{port}",
        "https://[127.0.0.1:{port}",
        "",
    ],
)
def test_nothing_is_sent_to_any_other_address(
    alice: httpx.Client, other: tuple[Other, str], address: str, caplog: pytest.LogCaptureFixture
) -> None:
    there = address.format(port=other[1].rpartition(":")[2])
    assert alice.post("/call", params={"address": there, "path": "/echo"}).status_code == 502
    assert "add it to FLYTE_DATA_ADDRESSES" in caplog.text
    assert other[0].received == []


def test_an_address_in_the_settings_is_called(
    local_flyte: LocalFlyte, other: tuple[Other, str]
) -> None:
    address = other[1].replace("127.0.0.1", "localhost")
    app = build_app(router, flyte_data_addresses=(address,))
    with serving(app) as url, client_of(url, "alice") as alice:
        # Trusted, but its certificate is for another name.
        answer = alice.post("/call", params={"address": address, "path": "/echo"})
    assert answer.status_code == 503


def test_a_path_cannot_change_the_address(alice: httpx.Client, other: tuple[Other, str]) -> None:
    for path in ("@example.com/", ".example.com/", ""):
        answer = alice.post("/call", params={"address": other[1], "path": path})
        assert answer.status_code == 500
    assert other[0].received == []


def test_nothing_is_sent_to_an_untrusted_certificate(
    alice: httpx.Client,
    local_flyte: LocalFlyte,
    other: tuple[Other, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(local_flyte.ca_file))
    answer = alice.post("/call", params={"address": other[1], "path": "/echo"})
    assert answer.status_code == 503
    assert other[0].received == []


def test_an_app_that_hangs_is_left_at_the_deadline(
    short_timeout: httpx.Client, other: tuple[Other, str]
) -> None:
    def is_left() -> bool:
        query = {"address": other[1], "path": "/hang"}
        assert short_timeout.post("/call", params=query).status_code == 504
        return other[0].left

    wait_until(is_left)  # on a busy machine, the deadline may come before it is called


def test_a_response_that_is_too_large_is_not_read(
    alice: httpx.Client, other: tuple[Other, str]
) -> None:
    answer = alice.post("/call", params={"address": other[1], "path": "/large"})
    assert answer.status_code == 413


def test_a_stream_of_small_messages_is_too_large_as_well(
    alice: httpx.Client, other: tuple[Other, str]
) -> None:
    answer = alice.post("/call", params={"address": other[1], "path": "/endless"})
    assert answer.status_code == 413


def test_what_goes_on_after_the_request_calls_no_app(
    alice: httpx.Client, other: tuple[Other, str]
) -> None:
    assert alice.post("/later", params={"address": other[1]}).is_success
    wait_until(stray[0].done)
    assert stray[0].cancelled()
    assert other[0].received == []


def test_without_credentials_no_app_is_called(
    alice: httpx.Client, other: tuple[Other, str]
) -> None:
    said = alice.post("/thread", params={"address": other[1]}).json()
    assert said.startswith("there are no caller's credentials here")
    assert other[0].received == []
