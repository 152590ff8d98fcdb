"""OpenTelemetry: a span for each request, without credentials."""

import http.server
import json
import re
import threading
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, ClassVar

import httpx
import pytest
from fastapi import APIRouter, Request
from fastapi.telemetry import _runtime
from opentelemetry import metrics, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from local_flyte import PEOPLE, LocalFlyte
from local_flyte.testing import client_of, serving, wait_until
from passthrough.agents.serve import serve_agents

from . import naive_endpoints
from .support import build_app

TOKEN = PEOPLE["alice"].token
SECRET = "sk-live-0123456789abcdef"
BAGGAGE = "what-a-client-writes"
EXPORTED = InMemorySpanExporter()

router = APIRouter()
router.include_router(naive_endpoints.router)


@router.get("/raises")
async def raises(request: Request) -> None:
    raise RuntimeError(f"no good: {request.url} {dict(request.headers)}")


class Collector(http.server.BaseHTTPRequestHandler):
    """What receives spans and metrics by HTTP."""

    received: ClassVar[dict[str, bytes]] = defaultdict(bytes)

    def do_POST(self) -> None:
        self.received[self.path] += self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def _exporting() -> Iterator[None]:
    """Export what an owner's settings say, and besides to `EXPORTED`, in this process.

    The providers are set for good; after these tests, they export nothing.
    """
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(EXPORTED))
    trace.set_tracer_provider(provider)
    with (
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server,
        pytest.MonkeyPatch.context() as patch,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
        yield
        _runtime._shutdown()  # what FastAPI also calls at exit, once for each exporter
        server.shutdown()


@pytest.fixture(scope="module")
def alice(_exporting: None, local_flyte: LocalFlyte) -> Iterator[httpx.Client]:
    app = build_app(router, credential_headers=("x-api-key",))
    serve_agents(app)
    with serving(app) as url, client_of(url, "alice") as client:
        yield client


@pytest.fixture(autouse=True)
def _no_spans() -> None:
    EXPORTED.clear()


def spans(name: str = "") -> list[Any]:
    """Return the spans that have ended: all, or those of a request such as ``GET /me``."""
    found = [json.loads(span.to_json() or "") for span in EXPORTED.get_finished_spans()]
    return [span for span in found if name in {"", span["name"]}]


def test_a_request_is_a_span_that_flytes_own_can_join(
    alice: httpx.Client, local_flyte: LocalFlyte
) -> None:
    local_flyte.clear_calls()
    response = alice.get("/whoami?token=of-nobody")
    wait_until(lambda: spans("GET /whoami"))
    (request,) = spans("GET /whoami")
    assert (
        request["attributes"].items()
        >= {
            "http.route": "/whoami",
            "http.response.status_code": 200,
            "request_id": response.headers["x-request-id"],
        }.items()
    )
    (call,) = (call for call in local_flyte.calls if call.method == "UserInfo")
    trace_id, span_id = (request["context"][name][2:] for name in ("trace_id", "span_id"))
    assert call.headers["traceparent"].startswith(f"00-{trace_id}-{span_id}-")


def tool_call(tool: str, **arguments: Any) -> dict[str, Any]:
    params: dict[str, Any] = {"name": tool, "arguments": arguments}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}


def test_no_span_metric_or_call_contains_a_credential(
    alice: httpx.Client, local_flyte: LocalFlyte
) -> None:
    local_flyte.clear_calls()
    everywhere = {
        "X-Api-Key": SECRET,
        "Cookie": f"flyte_at={SECRET}; other={SECRET}",
        "X-Request-ID": f"Bearer {SECRET}",
        "Baggage": f"key={BAGGAGE}",
        "Traceparent": f"00-{'1' * 32}-{'2' * 16}-01",
    }
    for authorization in (f"Bearer {TOKEN}", f"Basic {SECRET}", SECRET, f"Bearer {SECRET}"):
        headers = everywhere | {"Authorization": authorization}
        for path in ("/whoami", "/raises", "/runs/none", "/none", "/health"):
            alice.get(path, headers=headers)
        # The server reads the next request on this connection in this one's context.
        inputs = {"name": SECRET, "excited": "x" * 200_000}
        alice.post("/tasks/none/run", json=inputs, headers=headers)
        for tool in ("status", "none"):
            alice.post("/mcp", json=tool_call(tool, name="none"), headers=headers)
    alice.get("/projects")  # without a trace of its own
    wait_until(lambda: spans("GET /projects"))

    told = json.dumps(spans())
    assert not re.findall(rf".{{100}}(?:{SECRET}|{TOKEN}|x{{100}})", told)
    providers: list[Any] = [trace.get_tracer_provider(), metrics.get_meter_provider()]
    for provider in providers:
        provider.force_flush()
    assert Collector.received.keys() == {"/v1/traces", "/v1/metrics"}
    exported = b"".join(Collector.received.values())
    assert b"GET /whoami" in exported
    assert not {each for each in (SECRET, TOKEN) if each.encode() in exported}
    (last,) = spans("GET /projects")
    assert last["parent_id"] is None
    assert spans("GET /whoami")[0]["context"]["trace_id"] == "0x" + "1" * 32
    assert local_flyte.calls
    for call in local_flyte.calls:
        assert BAGGAGE not in str(call.headers)
