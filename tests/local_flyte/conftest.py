"""A local Flyte to test, from the template's folder as it is: unrendered, it is valid Python."""

from collections.abc import Iterator

import pytest

from local_flyte import LocalFlyte


@pytest.fixture(scope="session")
def local_flyte() -> Iterator[LocalFlyte]:
    """Return a local Flyte with nothing deployed. Leave it as you found it, or name your own."""
    with LocalFlyte() as local_flyte:
        yield local_flyte
