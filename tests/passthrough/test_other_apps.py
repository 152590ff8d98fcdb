"""Calls to other apps: destination, caller and deadline."""

import asyncio
from typing import Any

import httpx
import pytest
from connectrpc.errors import ConnectError
from fastapi import APIRouter
from flyte import remote
from flyteidl2.app import app_definition_pb2

from local_flyte.testing import acting_as, bearer, wait_until
from passthrough.calls.other_apps import call_app
from passthrough.calls.request_calls import RequestCalls, current_calls

from .elsewhere import Elsewhere

pytestmark = pytest.mark.usefixtures("certificate")
router = APIRouter()


def app_at(address: str) -> remote.App:
    """Make an app, as if Flyte had returned this address for it."""
    app = app_definition_pb2.App()
    app.metadata.id.name = "other"
    app.status.ingress.public_url = address
    return remote.App(app)


@router.post("/call")
async def call(address: str, path: str) -> list[Any]:
    own = {"Authorization": "Bearer of-nobody", "X-Own": "1"}
    options = {"content": {"one": 1}, "params": {"two": "2"}, "headers": own}
    answer = await call_app(app_at(address), "POST", path, **options)
    return [answer.status, answer.text()]


def post(client: httpx.Client, address: str, path: str = "/echo") -> httpx.Response:
    return client.post("/call", params={"address": address, "path": path})


def test_another_app_is_called_as_the_caller_whatever_headers_the_endpoint_sets(
    alice: httpx.Client, bob: httpx.Client, elsewhere: Elsewhere
) -> None:
    for client, name in ((alice, "alice"), (bob, "bob")):
        elsewhere.answers(b"said")
        assert post(client, elsewhere.address).json() == [200, "said"]
        (received,) = elsewhere.received
        assert received["headers"].getlist("authorization") == [bearer(name)]
        assert received["headers"]["x-own"] == "1"
        assert (received["query_string"], received["body"]) == (b"two=2", b'{"one": 1}')


def test_nothing_is_sent_without_tls(
    alice: httpx.Client, plain: Elsewhere, caplog: pytest.LogCaptureFixture
) -> None:
    plain.answers()
    assert post(alice, plain.address).status_code == 502
    assert f"no credentials are sent to '{plain.address}'" in caplog.text
    assert plain.received == []


def test_a_path_cannot_change_the_address_and_a_redirect_is_not_followed(
    alice: httpx.Client, elsewhere: Elsewhere, plain: Elsewhere
) -> None:
    plain.answers()
    elsewhere.answers(location=f"{plain.address}/echo")
    for path in ("@example.com/", ".example.com/", ""):
        assert post(alice, elsewhere.address, path).status_code == 500
    assert elsewhere.received == []
    assert post(alice, elsewhere.address).json() == [307, ""]
    assert plain.received == []


def test_an_app_that_hangs_is_left_at_the_deadline(
    short_timeout: httpx.Client, elsewhere: Elsewhere
) -> None:
    def is_left() -> bool:
        answer = post(short_timeout, elsewhere.address, "/hang")
        assert answer.status_code == 504
        return elsewhere.was_left and "another app did not" in answer.json()["detail"]

    wait_until(is_left)  # on a busy machine, the deadline may come before it is called


def test_nobody_and_what_goes_on_after_its_request_call_no_app(elsewhere: Elsewhere) -> None:
    async def call(calls: RequestCalls) -> None:
        current_calls.set(calls)
        await call_app(app_at(elsewhere.address), "POST", "/echo", content={})

    elsewhere.answers()
    ended = RequestCalls()
    ended.end()
    with acting_as("alice"), pytest.raises(asyncio.CancelledError):
        asyncio.run(call(ended))
    with pytest.raises(ConnectError, match="there are no caller's credentials here"):
        asyncio.run(call(RequestCalls()))
    assert elsewhere.received == []
