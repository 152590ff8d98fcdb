"""The local Flyte as a target."""

import contextlib
from collections.abc import Iterator

from local_flyte import PEOPLE, LocalFlyte

from .runner import Target

KINDS = ("union", "devbox")


@contextlib.contextmanager
def local_target(kind: str) -> Iterator[Target]:
    """Start a local Flyte of this kind."""
    if kind not in KINDS:
        raise ValueError("The local Flyte is not an open-source one behind a proxy: give --url.")
    with LocalFlyte(devbox=kind == "devbox") as flyte:
        yield Target(
            url=flyte.url,
            kind=kind,
            tokens={name: person.token for name, person in PEOPLE.items()},
            ca_cert=flyte.ca_file.read_bytes(),
        )
