"""OpenTelemetry in a generated project: what an owner sets to export spans and metrics."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from local_flyte import PEOPLE, LocalFlyte
from local_flyte.apps import free_port
from local_flyte.testing import wait_until

from .served import started

pytestmark = pytest.mark.slow

TOKEN = PEOPLE["alice"].token
SECRET = "sk-live-0123456789abcdef"
Received = list[tuple[str, bytes]]


@pytest.fixture
def collector() -> Iterator[tuple[str, Received]]:
    """The address of an OTLP collector, and the data that it has received."""
    received: Received = []

    class Collector(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
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
    flyte: LocalFlyte, default_project: Path, collector: tuple[str, Received], tmp_path: Path
) -> None:
    address, received = collector
    variables = flyte.app_environment() | {
        "OTEL_EXPORTER_OTLP_ENDPOINT": address,
        "OTEL_SERVICE_NAME": "what-its-owner-calls-it",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "OTEL_METRIC_EXPORT_INTERVAL": "100",
    }
    port = free_port()
    url, log = f"http://127.0.0.1:{port}", tmp_path / "log"
    command = f"uvicorn app.main:app --port {port}"
    headers = {"Authorization": f"Bearer {TOKEN}", "X-Api-Key": SECRET}
    with started(command, default_project, f"{url}/health", variables, log):
        httpx.get(f"{url}/me?token={SECRET}", headers=headers, timeout=120, trust_env=False)
        expected = {"GET /me", "flyteidl2.auth.IdentityService/UserInfo"}
        wait_until(lambda: expected <= {span.name for span in exported_spans(received)})
        wait_until(lambda: "/v1/metrics" in {path for path, _ in received})
    for _, body in received:
        assert SECRET.encode() not in body
        assert TOKEN.encode() not in body
        assert b"what-its-owner-calls-it" in body
    assert {path for path, _ in received} == {"/v1/traces", "/v1/metrics"}
