"""The local Flyte as a target."""

import contextlib
from collections.abc import Iterator

from local_flyte import PEOPLE, LocalFlyte, Mode

from .runner import Target


@contextlib.contextmanager
def local_target(kind: str) -> Iterator[Target]:
    """Start a local Flyte of this kind."""
    with LocalFlyte(mode=Mode(kind)) as flyte:
        yield Target(
            url=flyte.url,
            kind=kind,
            tokens={name: flyte.token(name) for name in PEOPLE},
            ca_cert=flyte.ca_file.read_bytes(),
        )
