"""Which addresses that Flyte returns get callers' credentials."""

import asyncio

import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError

from passthrough.calls.addresses import is_neighbour, is_trusted, trusted
from passthrough.calls.other_apps import _is_on_the_same_host
from passthrough.calls.request_calls import Limits, RequestCalls, current_calls

FLYTE = "https://flyte.acme.example:8443"
LISTED = frozenset({"https://data.example:9443", "http://data.example"})


@pytest.mark.parametrize(
    ("flyte", "address", "is_one"),
    [
        ("https://flyte.acme.example", "https://cluster-2.acme.example", True),
        ("https://flyte.acme.example:443", "https://cluster-2.acme.example:443/", True),
        ("https://flyte.acme.example", "https://a.b.acme.example", True),
        ("https://flyte.acme.example", "http://cluster-2.acme.example", False),
        ("https://flyte.acme.example", "https://cluster-2.acme.example:8443", False),
        ("https://flyte.acme.example", "https://acme.example", False),
        ("https://flyte.acme.example", "https://evil-acme.example", False),
        ("https://flyte.acme.example", "https://acme.example.evil.example", False),
        ("https://flyte.acme.example", "https://cluster-2.acme.example@evil.example", False),
        ("https://flyte.acme.example", "https://evil.example/.acme.example", False),
        ("https://flyte.acme.example", "https://evil.example#.acme.example", False),
        ("https://flyte.acme.example", "https://evil.example\\.acme.example", False),
        ("https://flyte.acme.example", "https://cluster-2.acmeXexample", False),
        ("https://flyte.acme.example", "https://cluster-2.acme.example:443.evil.example", False),
        ("https://flyte.acme.example", "https://cluster-2.acme.example/evil", False),
        ("https://flyte.acme.example", " https://cluster-2.acme.example", False),
        ("https://flyte.acme.example", "https://clusterÄ.acme.example", False),
        ("https://flyte.acme.example.", "https://cluster-2.acme.example.", False),
        ("https://acme.example", "https://evil.example", False),
        ("https://flyte.com.", "https://evil.com.", False),
        ("https://flyte.com", "https://evil.com.", False),
        ("https://flyte.co.uk", "https://evil.co.uk", False),
        ("https://flyte.github.io", "https://evil.github.io", False),
        ("https://flyte.s3.amazonaws.com", "https://evil.s3.amazonaws.com", False),
        ("https://localhost", "https://evil.localhost", False),
        ("https://flyte.localhost", "https://evil.localhost", False),
        ("https://10.0.0.1", "https://11.0.0.1", False),
        ("https://[::1]", "https://[::2]", False),
    ],
)
def test_only_hosts_in_flytes_domain_may_store_its_data(
    flyte: str, address: str, is_one: bool
) -> None:
    assert is_neighbour(address, flyte) is is_one


@pytest.mark.parametrize(
    ("address", "is_one"),
    [
        ("https://data.example:9443", True),
        ("https://cluster-2.acme.example", True),
        ("https://data.example:944", False),
        ("https://data.example:94430", False),
        ("https://data.example:9443.evil.example", False),
        ("https://data.example:9443@evil.example", False),
        ("https://data.example", False),
        ("http://data.example", False),
        ("https://", False),
    ],
)
def test_an_address_in_the_settings_is_trusted_if_it_is_the_same_and_has_tls(
    address: str, is_one: bool
) -> None:
    async def ask() -> bool:
        current_calls.set(RequestCalls(Limits(data_addresses=LISTED)))
        return is_trusted(address, FLYTE)

    assert asyncio.run(ask()) is is_one


@pytest.mark.parametrize(
    ("cluster", "address"),
    [
        ("https://cluster-2.acme.example", "https://cluster-2.acme.example"),
        ("dns:///cluster-2.acme.example", "https://cluster-2.acme.example"),
        ("cluster-2.acme.example", "https://cluster-2.acme.example"),
        ("http://flyte.acme.example:8443", FLYTE),
        ("dns:///flyte.acme.example:8443", FLYTE),
        ("flyte.acme.example:8443", FLYTE),
        ("http://cluster-2.acme.example", None),
        ("http://flyte.acme.example", None),
        ("flyte.acme.example:8443@evil.example", None),
        ("evil.example/dns:///", None),
        ("https://[", None),
        ("", None),
    ],
)
def test_a_cluster_is_called_over_tls_or_not_at_all(cluster: str, address: str | None) -> None:
    async def ask() -> str:
        return trusted(cluster, FLYTE)

    if address:
        assert asyncio.run(ask()) == address
        return
    with pytest.raises(ConnectError) as caught:
        asyncio.run(ask())
    assert caught.value.code is Code.INTERNAL
    assert caught.value.message == (
        f"Flyte stores this data at {cluster!r}, which is not an https:// address in its own"
        " domain. To send callers' credentials there, add its https:// address to"
        " FLYTE_DATA_ADDRESSES."
    )


@pytest.mark.parametrize(
    ("address", "is_one"),
    [
        ("https://flyte.acme.example", True),
        ("https://flyte.acme.example:30080", True),
        ("http://flyte.acme.example", False),
        ("https://flyteXacme.example", False),
        ("https://flyte.acme.example:1@evil.example", False),
        ("https://flyte.acme.example:x", False),
        ("https://flyte.acme.example:\u0661", False),
        ("https://flyte.acme.example.evil.example", False),
        ("xhttps://flyte.acme.example", False),
        ("https://example", False),
    ],
)
def test_an_app_on_flytes_own_host_may_have_any_port(address: str, is_one: bool) -> None:
    assert _is_on_the_same_host(address, FLYTE) is is_one
