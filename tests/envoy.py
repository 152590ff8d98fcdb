"""An Envoy in front of an app, or of a Flyte, as on Knative."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from local_flyte.apps import free_port

from .served import started

HOST = "127.0.0.1"
TYPES = "type.googleapis.com/envoy.extensions"


def tls(side: str, **context: Any) -> dict[str, Any]:
    """Return that one side of the proxy has TLS."""
    kind = f"{TYPES}.transport_sockets.tls.v3.{side}TlsContext"
    return {"name": "tls", "typed_config": {"@type": kind, "common_tls_context": context}}


def address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": HOST, "port_value": port}}


@contextmanager
def in_front_of(
    folder: Path, upstream: int, certificate: Path | None = None, prefix: str = "/"
) -> Iterator[int]:
    """Forward requests to a port, without this prefix; yield the port to call.

    With a certificate (and its key), it has TLS, offers HTTP/2, and forwards to servers with TLS.
    """
    port = free_port()
    router = {"name": "router", "typed_config": {"@type": f"{TYPES}.filters.http.router.v3.Router"}}
    to_server = {"cluster": "server", "prefix_rewrite": "/", "timeout": "0s"}
    routes = [{"match": {"prefix": prefix}, "route": to_server}]
    http = {
        "@type": f"{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "http_filters": [router],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
    }
    chain: dict[str, Any] = {"filters": [{"name": "http", "typed_config": http}]}
    endpoint = {"endpoint": {"address": address(upstream)}}
    assignment = {"cluster_name": "server", "endpoints": [{"lb_endpoints": [endpoint]}]}
    cluster: dict[str, Any] = {"name": "server", "load_assignment": assignment}
    if certificate:
        pem = {"filename": str(certificate)}
        keys = [{"certificate_chain": pem, "private_key": pem}]
        chain["transport_socket"] = tls("Downstream", tls_certificates=keys, alpn_protocols=["h2"])
        cluster["transport_socket"] = tls("Upstream")
    listener = {"address": address(port), "filter_chains": [chain]}
    configuration = folder / "envoy.json"
    resources = {"listeners": [listener], "clusters": [cluster]}
    configuration.write_text(json.dumps({"static_resources": resources}), "utf-8")
    command = f"envoy -c {configuration} -l error --concurrency 1 --use-dynamic-base-id"
    url = f"{'https' if certificate else 'http'}://{HOST}:{port}"
    with started(command, folder, url, {}, folder / "envoy.log"):
        yield port
