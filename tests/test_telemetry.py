"""OpenTelemetry: a span for each request and each call to Flyte, without credentials."""

import contextlib
import http.server
import json
import re
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from connectrpc.code import Code
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from websockets.sync.client import connect

from local_flyte import PEOPLE, LocalFlyte
from local_flyte.testing import wait_until

from .baking import Baker, run
from .served import TASKS, App

pytestmark = pytest.mark.slow

TOKEN = PEOPLE["alice"].token
SECRET = "sk-live-0123456789abcdef"

# The app as an owner may configure it, with a few endpoints for the tests.
OWNERS = """
import json, os, sys
from typing import Any

from fastapi import Request, WebSocket
from flyte import remote
from opentelemetry import trace

exported = lambda: []
if os.environ.get("IN_MEMORY"):
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    exported = exporter.get_finished_spans
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)

from app.main import app

kept: list[Any] = []


def create_app():
    return app


@app.get("/spans")
async def spans() -> list[Any]:
    return [json.loads(span.to_json()) for span in exported()]


@app.get("/sdk")
async def sdk() -> bool:
    return "opentelemetry.sdk" in sys.modules


@app.get("/raises")
async def raises(request: Request) -> None:
    raise RuntimeError(f"no good: {request.url} {dict(request.headers)}")


@app.websocket("/live/{name}")
async def live(websocket: WebSocket, name: str) -> None:
    await websocket.accept()
    async for state in (await remote.Run.get.aio(name)).watch():
        await websocket.send_text(state.phase)


@app.get("/keeps/{name}")
async def keeps(name: str) -> None:
    states = (await remote.Run.get.aio(name)).watch()
    await anext(states)
    kept.append(states)
"""


@pytest.fixture(scope="module")
def serve_traced(
    flyte: LocalFlyte, default_project: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., contextlib.AbstractContextManager[httpx.Client]]:
    """Return a function that serves the app with some variables, and yields alice's client."""

    @contextlib.contextmanager
    def serve(**variables: str) -> Iterator[httpx.Client]:
        folder = tmp_path_factory.mktemp("owner")
        (folder / "owners.py").write_text(OWNERS, "utf-8")
        variables |= {"PYTHONPATH": str(folder), "CREDENTIAL_HEADERS": "X-Api-Key"}
        environment = flyte.app_environment() | variables
        app = App(default_project, folder / "log", environment, module="owners")
        headers = {"Authorization": f"Bearer {TOKEN}"}
        with contextlib.closing(app):
            app.start()
            with httpx.Client(
                base_url=app.url, headers=headers, trust_env=False, timeout=120
            ) as alice:
                yield alice

    return serve


@pytest.fixture(scope="module")
def alice(serve_traced: Any) -> Iterator[httpx.Client]:
    """Alice's client of an app with an in-memory exporter."""
    with serve_traced(IN_MEMORY="1") as client:
        yield client


@pytest.fixture(scope="module")
def counting(alice: httpx.Client) -> Iterator[str]:
    """The name of a run that does not end."""
    started = alice.post(f"/tasks/{TASKS}.count/runs", json={"inputs": {"to": 100_000}})
    yield started.json()["name"]
    alice.post(f"/runs/{started.json()['name']}/abort")


class Spans:
    """The spans that have ended since this object was created."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self._before = len(self._all())

    def _all(self) -> list[Any]:
        return list(self._client.get("/spans").json())

    def __call__(self) -> list[Any]:
        """Return the spans in the order in which they ended."""
        found = self._all()[self._before :]
        return [span for span in found if span["name"] != "GET /spans"]

    def named(self, name: str) -> list[Any]:
        """Return the spans of a request, such as ``GET /me``, or of a method of Flyte."""
        return [span for span in self() if span["name"].rpartition("Service/")[2] == name]

    def one(self, name: str) -> Any:
        """Wait for a span with this name, and return it."""
        wait_until(lambda: self.named(name))
        (span,) = self.named(name)
        return span


def test_a_request_is_a_span_and_each_call_to_flyte_a_child_of_it(
    alice: httpx.Client, flyte: LocalFlyte
) -> None:
    spans = Spans(alice)
    flyte.clear_calls()
    response = alice.get("/me?token=of-nobody")
    request, call = spans.one("GET /me"), spans.one("UserInfo")
    assert request["parent_id"] is None
    assert request["attributes"]["http.route"] == "/me"
    assert request["attributes"]["http.response.status_code"] == 200
    assert request["attributes"]["request_id"] == response.headers["x-request-id"]
    assert call["parent_id"] == request["context"]["span_id"]
    assert call["kind"] == "SpanKind.CLIENT"
    assert call["attributes"] == {
        "rpc.system.name": "connectrpc",
        "rpc.method": "flyteidl2.auth.IdentityService/UserInfo",
    }
    (received,) = (call for call in flyte.calls if call.method == "UserInfo")
    trace, span = call["context"]["trace_id"][2:], call["context"]["span_id"][2:]
    assert received.headers["traceparent"].startswith(f"00-{trace}-{span}-")


def tool_call(tool: str, **arguments: Any) -> dict[str, Any]:
    params: dict[str, Any] = {"name": tool, "arguments": arguments}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}


def test_the_request_of_a_tool_call_is_a_child_of_the_agents(alice: httpx.Client) -> None:
    spans = Spans(alice)
    assert "alice" in alice.post("/mcp", json=tool_call("me")).text
    outer, inner, call = spans.one("POST /mcp"), spans.one("GET /me"), spans.one("UserInfo")
    assert inner["parent_id"] == outer["context"]["span_id"]
    assert call["parent_id"] == inner["context"]["span_id"]
    assert inner["attributes"]["request_id"] == outer["attributes"]["request_id"]
    assert len(spans()) == 3


def test_a_call_that_fails_has_a_status_and_no_text(alice: httpx.Client, flyte: LocalFlyte) -> None:
    spans = Spans(alice)
    flyte.fail_next("ListProjects", Code.PERMISSION_DENIED, message=f"not with {TOKEN}")
    assert alice.get("/projects").status_code == 403
    call = spans.one("ListProjects")
    assert call["attributes"]["rpc.response.status_code"] == "permission_denied"
    assert call["attributes"]["error.type"] == "ConnectError"
    assert call["status"] == {"status_code": "ERROR"}
    assert call["events"] == []


def test_a_retried_call_is_one_span(alice: httpx.Client, flyte: LocalFlyte) -> None:
    spans = Spans(alice)
    flyte.fail_next("ListProjects", Code.UNAVAILABLE, times=2)
    assert alice.get("/projects").status_code == 200
    assert spans.one("ListProjects")["status"] == {"status_code": "UNSET"}


def test_the_span_of_a_stream_ends_when_its_viewer_leaves(
    alice: httpx.Client, counting: str
) -> None:
    spans = Spans(alice)
    with alice.stream("GET", f"/runs/{counting}/events") as response:
        lines = response.iter_lines()
        next(lines)
        assert spans.named("WatchActionDetails") == []
        assert spans.named("GET /runs/{name}/events") == []
    call, request = spans.one("WatchActionDetails"), spans.one("GET /runs/{name}/events")
    assert call["parent_id"] == request["context"]["span_id"]
    assert call["status"] == {"status_code": "UNSET"}


def test_the_span_of_a_websocket_ends_with_it(alice: httpx.Client, counting: str) -> None:
    spans = Spans(alice)
    url = f"{alice.base_url}/live/{counting}".replace("http", "ws", 1)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with connect(url, additional_headers=headers, proxy=None, open_timeout=60) as viewer:
        viewer.recv()
        assert spans.named("WatchActionDetails") == []
    request = spans.one("WS /live/{name}")
    assert spans.one("WatchActionDetails")["parent_id"] == request["context"]["span_id"]


def test_the_span_of_a_stream_that_is_kept_ends_with_its_request(
    alice: httpx.Client, counting: str
) -> None:
    spans = Spans(alice)
    assert alice.get(f"/keeps/{counting}").status_code == 200
    request = spans.one("GET /keeps/{name}")
    assert spans.one("WatchActionDetails")["parent_id"] == request["context"]["span_id"]


TOLD = {
    "error.type",
    "http.request.method",
    "http.response.status_code",
    "http.route",
    "network.protocol.name",
    "network.protocol.version",
    "request_id",
    "rpc.method",
    "rpc.response.status_code",
    "rpc.system.name",
    "server.address",
    "server.port",
    "url.path",
    "url.scheme",
}


def test_no_span_and_no_call_contains_other_data_of_a_client(
    alice: httpx.Client, flyte: LocalFlyte
) -> None:
    spans = Spans(alice)
    flyte.clear_calls()
    everywhere = {
        "X-Api-Key": SECRET,
        "Cookie": f"flyte_at={SECRET}; other={SECRET}",
        "User-Agent": SECRET,
        "Host": SECRET,
        "X-Request-ID": f"Bearer {SECRET}",
        "Baggage": f"key={SECRET}",
        "Tracestate": f"key={SECRET}",
        "Traceparent": f"00-{'1' * 32}-{'2' * 16}-01",
    }
    for authorization in (f"Bearer {TOKEN}", f"Basic {SECRET}", SECRET, f"Bearer {SECRET}"):
        headers = everywhere | {"Authorization": authorization}
        for path in ("/me", "/raises", f"/runs/{SECRET}", f"/{SECRET}", "/health"):
            alice.get(path, params={"token": SECRET, "sig": SECRET}, headers=headers)
        # The server reads the next request on this connection in this one's context.
        inputs = {"inputs": {"name": SECRET, "excited": "x" * 200_000}}
        alice.post(f"/tasks/{SECRET}/runs", json=inputs, headers=headers)
        for tool in ("get_run", SECRET):
            meta = {"_meta": {"traceparent": f"00-{'3' * 32}-{'4' * 16}-01", "tracestate": SECRET}}
            body = tool_call(tool, name=SECRET)
            body["params"] |= meta
            alice.post("/mcp", json=body, headers=headers)
    alice.get("/projects")  # without a trace of its own
    wait_until(lambda: spans.named("GET /projects"))

    told = json.dumps(spans())
    assert not re.search(rf"{SECRET}|{TOKEN}|x{{100}}", told)
    assert {name for span in spans() for name in span["attributes"]} <= TOLD
    assert all(span["events"] == [] and span["links"] == [] for span in spans())
    assert all(span["attributes"].get("url.path", "") == "" for span in spans())
    (last,) = spans.named("GET /projects")
    assert last["parent_id"] is None
    assert spans.named("GET /me")[0]["context"]["trace_id"] == "0x" + "1" * 32
    assert flyte.calls
    for call in flyte.calls:
        assert not {"baggage", "tracestate"} & {name.lower() for name in call.headers}


Received = list[tuple[str, bytes]]


@pytest.fixture
def collector() -> Iterator[tuple[str, Received]]:
    """The address of an OTLP collector, and the data that it has received."""
    received: Received = []

    class Collector(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(length := int(self.headers["content-length"]))
            if len(body) == length:  # the app was not killed in the middle
                received.append((self.path, body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}", received
        server.shutdown()


def exported_spans(received: Received) -> list[Any]:
    """Return the spans in what a collector has received."""
    return [
        span
        for path, body in list(received)
        if path == "/v1/traces"
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def test_the_standard_variables_are_enough_to_export(
    serve_traced: Any, collector: tuple[str, Received]
) -> None:
    address, received = collector
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": address,
        "OTEL_SERVICE_NAME": "what-its-owner-calls-it",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "OTEL_METRIC_EXPORT_INTERVAL": "100",
    }
    with serve_traced(**variables) as alice:
        alice.get("/me", params={"token": SECRET})
        alice.get("/raises", headers={"X-Api-Key": SECRET})
        expected = {"GET /me", "GET /raises", "flyteidl2.auth.IdentityService/UserInfo"}
        wait_until(lambda: expected <= {span.name for span in exported_spans(received)})
        wait_until(lambda: "/v1/metrics" in {path for path, _ in received})
    for _, body in received:
        assert SECRET.encode() not in body
        assert TOKEN.encode() not in body
        assert b"what-its-owner-calls-it" in body
    assert {path for path, _ in received} == {"/v1/traces", "/v1/metrics"}


def test_without_them_the_sdk_is_not_even_imported(serve_traced: Any, flyte: LocalFlyte) -> None:
    with serve_traced() as alice:
        flyte.clear_calls()
        assert alice.get("/me").status_code == 200
        assert alice.get("/sdk").json() is False
    assert flyte.calls
    assert not any("traceparent" in call.headers for call in flyte.calls)


def test_one_extra_adds_the_exporter_to_the_image(baker: Baker, tmp_path: Path) -> None:
    project = baker(tmp_path)
    word = "fastapi[opentelemetry]"
    assert f"`{word}`" in (project / "docs/operating.md").read_text("utf-8")
    pyproject = project / "pyproject.toml"
    # The way the image's layer and a lock file are made.
    export = [sys.executable, "-m", "uv", "export", "--no-dev", "--quiet", "--no-hashes"]
    assert "opentelemetry-sdk" not in run(export, project)
    pyproject.write_text(pyproject.read_text("utf-8").replace('"fastapi>', f'"{word}>'), "utf-8")
    exported = run(export, project)
    assert "opentelemetry-sdk==" in exported
    assert "opentelemetry-exporter-otlp-proto-http==" in exported
