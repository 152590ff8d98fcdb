"""Run Envoy in front of an app, as on Knative."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from local_flyte.apps import free_port
from tests.served import started

HOST = "127.0.0.1"
FILTERS = "type.googleapis.com/envoy.extensions.filters"


def address(port: int) -> dict[str, Any]:
    """Return the Envoy configuration of a loopback address."""
    return {"socket_address": {"address": HOST, "port_value": port}}


@contextmanager
def in_front_of(
    folder: Path,
    *upstreams: int,
    route: dict[str, Any] | None = None,
    cluster: dict[str, Any] | None = None,
    host: str = "*",
) -> Iterator[int]:
    """Run Envoy as a proxy to ports; yield the port to call.

    ``route`` and ``cluster`` are further options of the route and of the cluster. Envoy responds to
    requests for another host than ``host`` with 404.
    """
    port = free_port()
    router = {"name": "router", "typed_config": {"@type": f"{FILTERS}.http.router.v3.Router"}}
    routes = [
        {"match": {"prefix": "/"}, "route": {"cluster": "server", "timeout": "0s"} | (route or {})}
    ]
    http = {
        "@type": f"{FILTERS}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "http_filters": [router],
        "route_config": {
            "ignore_port_in_host_matching": True,
            "virtual_hosts": [{"name": "all", "domains": [host], "routes": routes}],
        },
    }
    chain = {"filters": [{"name": "http", "typed_config": http}]}
    endpoints = [{"endpoint": {"address": address(upstream)}} for upstream in upstreams]
    assignment = {"cluster_name": "server", "endpoints": [{"lb_endpoints": endpoints}]}
    resources = {
        "listeners": [{"address": address(port), "filter_chains": [chain]}],
        "clusters": [{"name": "server", "load_assignment": assignment} | (cluster or {})],
    }
    configuration = folder / "envoy.json"
    configuration.write_text(json.dumps({"static_resources": resources}), "utf-8")
    command = f"envoy -c {configuration} -l error --concurrency 1 --use-dynamic-base-id"
    with started(command, folder, f"http://{HOST}:{port}", {}, folder / "envoy.log"):
        yield port
