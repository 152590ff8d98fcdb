"""OpenTelemetry: a span for each request, without credentials."""

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi import Request
from fastapi.telemetry import _runtime
from opentelemetry import metrics, trace
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from template import ROOT

from local_flyte import PEOPLE, LocalFlyte
from local_flyte.testing import client_of, serving
from passthrough.agents import serve_agents

from .. import naive_endpoints
from ..stub_servers import StubServer
from ..support import build_app, router_of

router = router_of(naive_endpoints)
PAGE = ROOT / "{{cookiecutter.project_slug}}/docs/operating.md"
TOKEN = PEOPLE["alice"].token
SECRET = "sk-live-0123456789abcdef"
BAGGAGE = "what-a-client-writes"


@router.get("/raises")
async def raises(request: Request) -> None:
    raise RuntimeError(f"no good: {request.url} {dict(request.headers)}")


@pytest.fixture(scope="module")
def alice(local_flyte: LocalFlyte, plain_stub: StubServer) -> Iterator[httpx.Client]:
    """Her client of an app that exports, as do later ones in this process, but to nobody."""
    app = build_app(router, credential_headers=("x-api-key",))
    serve_agents(app)
    plain_stub.answers(b"")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", plain_stub.address)
        with serving(app) as url, client_of(url, "alice") as client:
            yield client
        _runtime._shutdown()  # what FastAPI also calls at exit, once for each exporter


def exported(plain_stub: StubServer) -> dict[str, bytes]:
    """Return what has been exported, by path."""
    providers: list[Any] = [trace.get_tracer_provider(), metrics.get_meter_provider()]
    for provider in providers:
        provider.force_flush()
    bodies = defaultdict[str, bytes](bytes)
    for request in plain_stub.received:
        bodies[request["path"]] += request["body"]
    return bodies


def spans(plain_stub: StubServer, name: str) -> list[Any]:
    """Return the exported spans of a request, such as ``GET /me``."""
    # One after the other, messages of protobuf are one message with all of their items.
    traces = ExportTraceServiceRequest.FromString(exported(plain_stub)["/v1/traces"])
    scopes = [scope for resource in traces.resource_spans for scope in resource.scope_spans]
    return [span for scope in scopes for span in scope.spans if span.name == name]


def test_request_span_is_propagated_to_flyte(
    alice: httpx.Client, local_flyte: LocalFlyte, plain_stub: StubServer
) -> None:
    local_flyte.clear_calls()
    response = alice.get("/whoami?token=of-nobody")
    (span,) = spans(plain_stub, "GET /whoami")
    attributes = {pair.key: pair.value.string_value for pair in span.attributes}
    assert attributes["http.route"] == "/whoami"
    assert attributes["request_id"] == response.headers["x-request-id"]
    (call,) = (call for call in local_flyte.calls if call.method == "UserInfo")
    joined = f"00-{span.trace_id.hex()}-{span.span_id.hex()}-"
    assert call.headers["traceparent"].startswith(joined)


def test_metrics_have_documented_names(alice: httpx.Client, plain_stub: StubServer) -> None:
    alice.get("/whoami")
    alice.get("/whoami", headers={"Authorization": ""})  # 401
    received = ExportMetricsServiceRequest.FromString(exported(plain_stub)["/v1/metrics"])
    scopes = [scope for resource in received.resource_metrics for scope in resource.scope_metrics]
    metrics_sent = [metric for scope in scopes for metric in scope.metrics]
    by_name = {m.name: m for m in metrics_sent if m.name.startswith("http.server.")}
    rows = dict(re.findall(r"^\| `(http\..+?)` \| .*? \| (.*) \|$", PAGE.read_text("utf-8"), re.M))
    assert rows.keys() == by_name.keys()
    points = {
        name: [
            {pair.key: pair.value.string_value or pair.value.int_value for pair in point.attributes}
            for point in getattr(metric, str(metric.WhichOneof("data"))).data_points
        ]
        for name, metric in by_name.items()
    }
    for name, attributes in rows.items():
        documented = {*re.findall("`(.+?)`", attributes)} - {"error.type"}
        assert any(documented <= point.keys() for point in points[name])
    duration = "http.server.request.duration"
    assert by_name[duration].unit == "s"
    refused = [point for point in points[duration] if "http.route" not in point]
    assert 401 in [point["http.response.status_code"] for point in refused]


def test_spans_metrics_and_calls_contain_no_credential(
    alice: httpx.Client, local_flyte: LocalFlyte, plain_stub: StubServer
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
            call = {"name": tool, "arguments": {"name": "none"}}
            message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
            alice.post("/mcp", json=message, headers=headers)
    alice.get("/projects")  # without a trace of its own

    (last,) = spans(plain_stub, "GET /projects")
    assert not last.parent_span_id
    assert spans(plain_stub, "GET /whoami")[-1].trace_id.hex() == "1" * 32
    everything = exported(plain_stub)
    assert everything.keys() == {"/v1/traces", "/v1/metrics"}
    assert b"pyqwest" not in everything["/v1/traces"]  # their URLs may be signed
    secrets = rb"%b|%b|x{100}" % (SECRET.encode(), TOKEN.encode())
    assert not re.search(secrets, b"".join(everything.values()))
    assert local_flyte.calls
    assert not [call for call in local_flyte.calls if BAGGAGE in str(call.headers)]
