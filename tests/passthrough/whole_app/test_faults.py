"""Tests of faults of Flyte and of the connection to it, as in docs/tables/faults.toml."""

import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pages
import pytest
import trustme
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from app.routers import me, tasks
from local_flyte import LocalFlyte
from local_flyte.apps import free_port
from local_flyte.serving import HOST, listen
from local_flyte.testing import bearer, client_of, serving, wait_until
from passthrough.calls import request_state

from ..support import Called, build_app, router_of

router = router_of(me, tasks)


class Way:
    """A TLS proxy to the local Flyte. All requests reach it; the answer may be another one."""

    def __init__(self, local_flyte: LocalFlyte, certificate: Path) -> None:
        self.port = free_port()  # it does not always listen there
        self._flyte, self._certificate = local_flyte.url, certificate
        self._trusted = ssl.create_default_context(cafile=local_flyte.ca_file)
        self._open = ExitStack()

    def serve(self, certificate: Path | None = None) -> None:
        """Pass answers on, with this certificate; close existing connections."""
        self.accept()
        self.answer: ASGIApp | None = None
        options = {"ssl_certfile": certificate or self._certificate, "fd": self._listener.fileno()}
        options |= {"lifespan": "off", "timeout_graceful_shutdown": 0}
        self._open.enter_context(serving(self, **options))

    def accept(self) -> None:
        """Accept connections, and never answer."""
        self.refuse()
        self._listener = self._open.enter_context(listen(self.port))

    def refuse(self) -> None:
        """Refuse connections, and close existing ones."""
        self._open.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request, lengths = Request(scope, receive), {b"content-length", b"transfer-encoding"}
        headers = [pair for pair in request.headers.raw if pair[0] not in lengths]
        sent: dict[str, Any] = {"content": await request.body(), "headers": headers}
        async with (
            httpx.AsyncClient(verify=self._trusted, trust_env=False, timeout=None) as flyte,
            flyte.stream("POST", self._flyte + scope["path"], **sent) as answer,
        ):
            flytes = StreamingResponse(answer.aiter_raw(), answer.status_code)
            flytes.raw_headers = answer.headers.raw
            # Not for bob, who must still be served if anybody can be.
            is_met = scope["path"].endswith(("/UserInfo", "/CreateRun"))
            is_met &= request.headers["authorization"] != bearer("bob")
            await ((is_met and self.answer) or flytes)(scope, receive, send)


async def hang(_: Scope, receive: Receive, __: Send) -> None:
    await receive()  # until the client has left


async def die(_: Scope, __: Receive, send: Any) -> None:
    send.__self__.transport.abort()


def answers(answer: ASGIApp) -> Callable[[Way], None]:
    return lambda way: setattr(way, "answer", answer)


def with_a_certificate_of_nobody(way: Way) -> None:
    with trustme.CA().issue_cert(HOST).private_key_and_cert_chain_pem.tempfile() as file:
        way.serve(Path(file))


ROWS = {row.pop("fault"): row for row in pages.data("faults")["rows"]}
"""The rows of the table, by fault."""
FLYTE = "requests that the fault does not affect"
STARTS = ["does not reach Flyte", "reaches Flyte once"]
FAULTS: dict[str, Callable[[Way], None]] = {
    "refuses connections": Way.refuse,
    "accepts connections but never answers": Way.accept,
    "has a certificate from an unknown authority": with_a_certificate_of_nobody,
    "hangs": answers(hang),
    "dies before its answer": answers(die),
    "answers with a proxy's page": answers(Response("<p>", 502, media_type="text/html")),
    "answers with an invalid message": answers(Response(b"\xff", media_type="application/proto")),
}


def test_faults_page_lists_each_fault() -> None:
    assert {*ROWS} == {*FAULTS}


@pytest.fixture
def way(local_flyte: LocalFlyte, certificate: Path) -> Iterator[Way]:
    """Yield a proxy to Flyte. Nothing else in this process may connect to Flyte later."""
    way = Way(local_flyte, certificate)
    way.serve()
    yield way
    way.refuse()


@pytest.mark.parametrize("name", FAULTS)
def test_app_responds_during_fault_and_recovers(
    way: Way, called: Called, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The deadline of the call passes long before that of the request.
    monkeypatch.setattr(request_state, "CALLS_PER_RESPONSE", 900)
    app = build_app(router, flyte_timeout=2.0, flyte_endpoint=f"dns:///{HOST}:{way.port}")
    with (
        serving(app) as url,
        client_of(url, "alice") as alice,
        client_of(url, "bob") as bob,
        ThreadPoolExecutor() as threads,
    ):
        wait_until(lambda: alice.get("/me").json().get("name") == "Alice Adams")
        FAULTS[name](way)
        answer = threads.submit(alice.get, "/me")
        body = {"inputs": {"name": "Ada"}}
        start = threads.submit(alice.post, "/tasks/tests.greet/runs", json=body)
        assert bob.get("/health").is_success
        if ROWS[name]["still_served"] == FLYTE:
            wait_until(lambda: bob.get("/me").is_success)
        else:
            assert bob.get("/me").status_code == ROWS[name]["answer"]
        assert answer.result().status_code == ROWS[name]["answer"]
        assert start.result().headers["content-type"] == "application/problem+json"

        way.serve()
        wait_until(lambda: alice.get("/me").json().get("name") == "Alice Adams")
    starts = called("CreateRun")
    assert STARTS[starts] == ROWS[name]["start_of_a_run"]
