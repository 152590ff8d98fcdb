"""Which addresses that Flyte returns may get callers' credentials."""

import functools
import re
from contextlib import suppress
from string import digits
from urllib.parse import urlsplit

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from publicsuffixlist import PublicSuffixList

from .request_calls import request_calls

public_suffixes = functools.cache(PublicSuffixList)  # reading the list takes a tenth of a second


def trusted(address: str, flyte_address: str) -> str:
    """Return the address at which to call a cluster, or Flyte's own if the cluster is Flyte itself.

    The open-source Flyte returns the host name it was called by, with http:// behind a TLS proxy.

    Raises:
        ConnectError: Credentials must not be sent there.
    """
    address = re.sub("^dns:/*", "", address)
    if "//" not in address:
        address = f"https://{address}"
    with suppress(ValueError):  # not a URL
        if urlsplit(address).netloc == urlsplit(flyte_address).netloc:
            return flyte_address
    check_address(address, flyte_address)
    return address


def check_address(address: str, flyte_address: str) -> None:
    """Refuse to send credentials to an address that Flyte has returned, unless it is Flyte's.

    It must have TLS and be Flyte's own host, or in the same domain as that, as its clusters are, or
    be listed in the settings. ``https://cluster.acme.example`` is in the domain of
    ``https://flyte.acme.example``. Nothing is in the domain of ``flyte.co.uk``: anyone can register
    a name under ``co.uk`` (publicsuffix.org).

    Raises:
        ConnectError: Credentials must not be sent there.
    """
    # Compared as text: parsers disagree about the host of "https://:@a\\@b".
    host = re.sub(r":\d+$", "", urlsplit(flyte_address).netloc.lower())
    domain = host.partition(".")[2]
    allowed = rf"{re.escape(host)}(:\d+)?"
    is_name = domain.rpartition(".")[2].strip(digits)  # no IP address, and no dot at the end
    if is_name and not public_suffixes().is_public(domain):
        allowed += rf"|[a-z0-9.-]+\.{re.escape(domain)}(:443)?"
    is_listed = address.startswith("https://") and address in request_calls().data_addresses
    if not is_listed and not re.fullmatch(rf"https://({allowed})/?", address, re.ASCII):
        raise ConnectError(
            Code.INTERNAL,
            f"{address!r} is not an https:// address in Flyte's own domain. To send callers'"
            " credentials there, add it to FLYTE_DATA_ADDRESSES.",
        )
