"""A local Flyte to test, from the unrendered template folder, which is valid Python."""

from collections.abc import Iterator

import pytest

from local_flyte import LocalFlyte


@pytest.fixture(scope="session")
def local_flyte() -> Iterator[LocalFlyte]:
    """Return a local Flyte without deployments. Don't change it, or use names of your own."""
    with LocalFlyte() as local_flyte:
        yield local_flyte
