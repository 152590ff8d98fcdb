"""Which addresses that Flyte returns get callers' credentials."""

import asyncio

import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError

from passthrough.calls.addresses import trusted
from passthrough.calls.request_calls import RequestCalls, current_calls

FLYTE = "https://flyte.acme.example:8443"
LISTED = frozenset({"https://data.example:9443", "http://data.example"})


def address_of(cluster: str, flyte: str) -> str:
    """Return the address at which a cluster is called."""

    async def ask() -> str:
        current_calls.set(RequestCalls(data_addresses=LISTED))
        return trusted(cluster, flyte)

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("cluster", "address"),
    [
        ("https://cluster-2.acme.example", "https://cluster-2.acme.example"),
        ("https://cluster-2.acme.example:443/", "https://cluster-2.acme.example:443/"),
        ("cluster-2.acme.example", "https://cluster-2.acme.example"),
        ("http://flyte.acme.example:8443", FLYTE),
        ("dns:///flyte.acme.example:8443", FLYTE),
        ("https://flyte.acme.example", "https://flyte.acme.example"),
        ("https://flyte.acme.example:30080", "https://flyte.acme.example:30080"),
        ("https://data.example:9443", "https://data.example:9443"),
    ],
)
def test_flyte_and_clusters_in_its_domain_or_the_settings_are_called_over_tls(
    cluster: str, address: str
) -> None:
    assert address_of(cluster, FLYTE) == address


@pytest.mark.parametrize(
    ("flyte", "cluster"),
    [
        *(
            (FLYTE, cluster)
            for cluster in (
                "http://cluster-2.acme.example",
                "https://cluster-2.acme.example:8443",
                "https://acme.example",
                "https://evil-acme.example",
                "https://cluster-2.acme.example@evil.example",
                "https://evil.example/.acme.example",
                "https://evil.example\\.acme.example",
                "https://cluster-2.acmeXexample",
                "https://cluster-2.acme.example/evil",
                " https://cluster-2.acme.example",
                "https://clusterÄ.acme.example",
                "http://flyte.acme.example",
                "https://flyteXacme.example",
                "https://flyte.acme.example:\u0661",
                "xhttps://flyte.acme.example",
                "http://data.example",
                "evil.example/dns:///",
                "https://[",
                "",
            )
        ),
        ("https://flyte.acme.example.", "https://cluster-2.acme.example."),
        ("https://acme.example", "https://evil.example"),
        ("https://flyte.com.", "https://evil.com."),
        ("https://flyte.co.uk", "https://evil.co.uk"),
        ("https://FLYTE.CO.UK", "https://evil.co.uk"),
        ("https://flyte.s3.amazonaws.com", "https://evil.s3.amazonaws.com"),
        ("https://localhost", "https://evil.localhost"),
        ("https://flyte.localhost", "https://evil.localhost"),
        ("https://10.0.0.1", "https://11.0.0.1"),
        ("https://[::1]", "https://[::2]"),
    ],
)
def test_only_hosts_in_flytes_domain_may_store_its_data(flyte: str, cluster: str) -> None:
    with pytest.raises(ConnectError) as caught:
        address_of(cluster, flyte)
    assert caught.value.code is Code.INTERNAL
    assert caught.value.message.endswith(
        " is not an https:// address in Flyte's own domain. To send callers' credentials there, add"
        " it to FLYTE_DATA_ADDRESSES."
    )
