"""What callers see when Flyte, or the connection to it, fails: all that ``docs/faults.md`` says."""

import re
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pages
import pytest
import trustme
from fastapi import APIRouter
from flyte import remote

from app.routers import me, runs, streams, tasks
from local_flyte import LocalFlyte
from local_flyte.testing import acting_as, bearer, client_of, long_run, serving, wait_until
from passthrough import App
from passthrough.calls import request_state

from .. import faulty
from ..faulty import HOST, Proxy, answer_with
from ..support import Called, build_app

router = APIRouter()
for module in (me, runs, streams, tasks):
    router.include_router(module.router)
TRUSTED = trustme.CA()


def answers(fault: faulty.Fault) -> Callable[[Proxy], None]:
    """Return a function that applies a fault to answers."""
    return lambda way: setattr(way, "fault", fault)


ROWS = {row.pop("fault"): row for row in pages.data("faults")["rows"]}
"""What the page says of each fault."""
FLYTE = "requests that the fault does not affect"
STARTS = ["does not reach Flyte", "reaches Flyte once"]
FAULTS: dict[str, Callable[[Proxy], None]] = {
    "refuses connections": Proxy.refuse_connections,
    "accepts connections but never answers": Proxy.never_answer_hellos,
    "has a certificate from an unknown authority": lambda way: listen(way, trustme.CA()),
    "hangs": answers(faulty.hang),
    "dies before its answer": answers(faulty.die),
    "answers with a proxy's page": answers(answer_with(b"<p>", "text/html", "502 Bad Gateway")),
    "answers with an invalid message": answers(answer_with(b"\xff")),
}


def test_the_page_has_each_fault() -> None:
    assert {*ROWS} == {*FAULTS}


def listen(way: Proxy, authority: trustme.CA = TRUSTED) -> None:
    """Listen with a certificate of this authority, and offer HTTP/2, which is not understood."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["h2", "http/1.1"])
    authority.issue_cert(HOST).configure_cert(context)
    way.listen(context)


@pytest.fixture
def way(
    local_flyte: LocalFlyte, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Proxy]:
    """A TLS proxy to the local Flyte."""
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(local_flyte.ca_file.read_bytes() + TRUSTED.cert_pem.bytes())
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    to_tls = ssl.create_default_context(cafile=local_flyte.ca_file)
    with closing(Proxy(local_flyte.port, to_tls)) as way:
        listen(way)
        yield way


def app_of(way: Proxy) -> App:
    """Return an app that reaches Flyte this way, if nothing else in this process connects later."""
    return build_app(router, flyte_timeout=2.0, flyte_endpoint=f"dns:///{HOST}:{way.port}")


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_answered_and_the_app_recovers_after_it(
    way: Proxy, called: Called, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_state, "CALLS", 900)  # the call itself has to end, not its request
    is_met, run = re.compile(rb"/(UserInfo|CreateRun) "), "/tasks/tests.greet/runs"
    with (
        serving(app_of(way)) as url,
        client_of(url, "alice") as alice,
        client_of(url, "bob") as bob,
        ThreadPoolExecutor() as threads,
    ):
        wait_until(lambda: alice.get("/me").json().get("name") == "Alice Adams")

        # Not for bob, who must still be served if anybody can be.
        way.meets = lambda head: is_met.search(head) and bearer("bob").encode() not in head
        FAULTS[name](way)
        answer = threads.submit(alice.get, "/me")
        start = threads.submit(alice.post, run, json={"inputs": {"name": "Ada"}})
        assert bob.get("/health").is_success
        if ROWS[name]["still_served"] == FLYTE:
            wait_until(lambda: bob.get("/me").is_success)
        else:
            assert bob.get("/me").status_code == ROWS[name]["answer"]
        assert answer.result().status_code == ROWS[name]["answer"]
        assert start.result().headers["content-type"] == "application/problem+json"

        listen(way)
        wait_until(lambda: alice.get("/me").json().get("name") == "Alice Adams")
    starts = called("CreateRun")
    assert STARTS[starts] == ROWS[name]["start_of_a_run"]


@pytest.mark.parametrize("path", ["events", "actions/events"])
def test_a_viewer_does_not_notice_an_interrupted_watch(
    way: Proxy, called: Called, path: str
) -> None:
    cuts = iter(range(2))
    way.meets = lambda head: b"/WatchActions " in head and next(cuts, None) is not None
    way.fault = faulty.cut
    with (
        long_run("tests.count", to=100_000) as run,
        serving(app_of(way)) as url,
        client_of(url, "alice") as alice,
        alice.stream("GET", f"/runs/{run}/{path}") as stream,
    ):
        wait_until(lambda: called("WatchActions") == 3)
        with acting_as("alice"):
            remote.Run.get(run).abort()
        assert b'"phase":"aborted"' in stream.read()
