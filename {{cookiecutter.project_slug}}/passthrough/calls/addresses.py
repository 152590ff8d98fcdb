"""Which addresses that Flyte returns may get callers' credentials."""

import functools
import re
from contextlib import suppress
from urllib.parse import urlsplit

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from publicsuffixlist import PublicSuffixList

from .request_calls import request_calls


def trusted(cluster: str, flyte_address: str) -> str:
    """Return the address at which to call a cluster, or Flyte's own if the cluster is Flyte itself.

    The open-source Flyte returns the host name it was called by, with http:// behind a TLS proxy.

    Raises:
        ConnectError: Credentials must not be sent there.
    """
    address = re.sub("^dns:/*", "", cluster)
    if "//" not in address:
        address = f"https://{address}"
    with suppress(ValueError):  # not a URL
        if urlsplit(address).netloc == urlsplit(flyte_address).netloc:
            return flyte_address
    if not is_trusted(address, flyte_address):
        raise ConnectError(
            Code.INTERNAL,
            f"Flyte stores this data at {cluster!r}, which is not an https:// address in its own"
            " domain. To send callers' credentials there, add its https:// address to"
            " FLYTE_DATA_ADDRESSES.",
        )
    return address


def is_trusted(address: str, flyte_address: str) -> bool:
    """Tell whether credentials may be sent to an address that Flyte has returned."""
    is_listed = address.startswith("https://") and address in request_calls().limits.data_addresses
    return is_listed or is_neighbour(address, flyte_address)


def is_neighbour(address: str, flyte_address: str) -> bool:
    """Tell whether an address has TLS and is in the same domain as Flyte's, as its clusters are.

    ``https://cluster.acme.example`` is a neighbour of ``https://flyte.acme.example``. Nothing is a
    neighbour of ``flyte.co.uk``: anyone can register a name under ``co.uk`` (publicsuffix.org).
    """
    domain = (urlsplit(flyte_address).hostname or "").partition(".")[2]
    if not domain or domain.rpartition(".")[2].isdigit() or domain.endswith("."):
        return False
    if _public_suffixes().is_public(domain):
        return False
    return re.fullmatch(rf"https://[a-z0-9.-]+\.{re.escape(domain)}(:443)?/?", address) is not None


@functools.cache
def _public_suffixes() -> PublicSuffixList:
    """Return the list; reading it takes a tenth of a second."""
    return PublicSuffixList()
