"""Calling another app as the caller: where credentials are sent, and where not."""

import asyncio
from collections.abc import AsyncIterator, Iterator
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
from local_flyte.testing import acting_as, bearer, serving, wait_until
from passthrough.calls.other_apps import call_app
from passthrough.calls.request_calls import RequestCalls, current_calls

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


class Other:
    """An app that records its requests."""

    def __init__(self) -> None:
        self.received: list[Request] = []
        self.left = False
        self.app = FastAPI()
        for answer in (self.echo, self.elsewhere, self.hang, self.endless):
            self.app.post(f"/{answer.__name__}")(answer)

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
        while (await request.receive())["type"] != "http.disconnect":
            pass
        self.left = True

    async def endless(self) -> StreamingResponse:
        async def messages() -> AsyncIterator[bytes]:
            for _ in range(100):  # 10 MB
                yield (b"\0" + (1000).to_bytes(4) + b"x" * 1000) * 100

        return StreamingResponse(messages(), media_type="application/connect+json")


@pytest.fixture(scope="module", autouse=True)
def other(
    local_flyte: LocalFlyte, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Other, str]]:
    """The other app, with TLS, on the same host as Flyte, and its address.

    Its authority is trusted by the apps that are started afterwards.
    """
    folder, authority, other = tmp_path_factory.mktemp("other"), trustme.CA(), Other()
    trusted, certificate = folder / "ca.pem", folder / "server.pem"
    trusted.write_bytes(local_flyte.ca_file.read_bytes() + authority.cert_pem.bytes())
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
    with (
        serving(other.app, ssl_certfile=str(certificate)) as url,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("SSL_CERT_FILE", str(trusted))
        yield other, url


def post(client: httpx.Client, address: str, path: str = "/echo") -> httpx.Response:
    return client.post("/call", params={"address": address, "path": path})


def test_another_app_is_called_as_the_caller_whatever_headers_the_endpoint_sets(
    alice: httpx.Client, bob: httpx.Client, other: tuple[Other, str]
) -> None:
    for client, name in ((alice, "alice"), (bob, "bob")):
        body = {"authorization": [bearer(name)], "own": "1", "query": "two=2", "json": {"one": 1}}
        assert post(client, other[1]).json() == {"status": 200, "body": body}
    other[0].received.clear()


def test_nothing_is_sent_to_any_other_address(
    alice: httpx.Client, other: tuple[Other, str], caplog: pytest.LogCaptureFixture
) -> None:
    port = other[1].rpartition(":")[2]
    for address in (
        f"http://127.0.0.1:{port}",
        f"https://localhost:{port}",
        f"https://x@127.0.0.1:{port}",
        # By WHATWG's rules, which the transport has, "\\" ends the host; by Python's it does not.
        f"https://:@localhost:{port}\\@127.0.0.1",
        f"https://[127.0.0.1:{port}",
        "",
    ):
        caplog.clear()
        assert post(alice, address).status_code == 502, address
        assert "add it to FLYTE_DATA_ADDRESSES" in caplog.text
    assert post(alice, "https://127.0.0.1:99999", "/echo?x=private").status_code == 502
    assert "127.0.0.1:99999' cannot be called" in caplog.text
    assert "private" not in caplog.text
    assert other[0].received == []


def test_a_path_cannot_change_the_address_and_a_redirect_is_not_followed(
    alice: httpx.Client, other: tuple[Other, str]
) -> None:
    for path in ("@example.com/", ".example.com/", ""):
        assert post(alice, other[1], path).status_code == 500
    post(alice, other[1], "/elsewhere")
    assert other[0].received == []


def test_nothing_is_sent_to_an_untrusted_certificate(
    alice: httpx.Client, other: tuple[Other, str], tmp_path: Path
) -> None:
    certificate = tmp_path / "server.pem"
    trustme.CA().issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
    with serving(other[0].app, ssl_certfile=str(certificate)) as url:
        assert post(alice, url).status_code == 503
    assert other[0].received == []


def test_an_app_that_hangs_is_left_at_the_deadline(
    short_timeout: httpx.Client, other: tuple[Other, str]
) -> None:
    def is_left() -> bool:
        assert post(short_timeout, other[1], "/hang").status_code == 504
        return other[0].left

    wait_until(is_left)  # on a busy machine, the deadline may come before it is called


def test_a_response_that_is_too_large_is_not_read_even_in_small_messages(
    alice: httpx.Client, other: tuple[Other, str]
) -> None:
    assert post(alice, other[1], "/endless").status_code == 413


def test_nobody_and_what_goes_on_after_its_request_call_no_app(other: tuple[Other, str]) -> None:
    async def call() -> None:
        await call_app(app_at(other[1]), "POST", "/echo", content={})

    async def call_later() -> None:
        current_calls.set(calls := RequestCalls())
        calls.end()
        await call()

    with acting_as("alice"), pytest.raises(asyncio.CancelledError):
        asyncio.run(call_later())
    with pytest.raises(ConnectError, match="there are no caller's credentials here"):
        asyncio.run(call())
    assert other[0].received == []
