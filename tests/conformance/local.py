"""The local Flyte as a target."""

import contextlib
from collections.abc import Iterator

from local_flyte import PEOPLE, LocalFlyte

from .runner import Target


@contextlib.contextmanager
def local_target(kind: str) -> Iterator[Target]:
    """Start a local Flyte of this kind."""
    flyte = LocalFlyte(authorization=kind == "union", plaintext=kind == "devbox", proxied=False)
    with flyte:
        yield Target(
            url=flyte.url,
            kind=kind,
            tokens={
                name: person.token if kind == "union" else person.jwt
                for name, person in PEOPLE.items()
            },
            ca_cert=flyte.ca_file.read_bytes(),
            wait_seconds=300,
            direct=True,
        )
