"""Credentials follow SelectCluster to plain HTTP.

The SDK calls the address that SelectCluster returns, with any scheme, and sends the caller's
Authorization there. The open-source backend returns `http://` unless a proxy in front of it
sets `X-Forwarded-Proto`.

Severity: High, since 2.3.9 or older.

Patch: `remote/_client/controlplane.py`, `_ClusterAwareService._select_and_build_with_cluster`:
refuse an endpoint without TLS if the session has TLS, and compare hosts instead of texts, so
that `http://` with Flyte's own host means the existing session. Let applications list the hosts
that they trust.
"""

import asyncio

from flyte import remote
from harness import plain, plane

plane.cluster_endpoint = plain.endpoint  # http://…
asyncio.run(remote.RunDetails.get(name="r").inputs())
assert plain.received("GetActionData", "authorization") == ["Bearer of-alice"]
