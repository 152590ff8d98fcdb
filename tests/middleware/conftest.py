"""Every case that takes ``middleware_class`` runs on ours and on the SDK's class.

A case marked ``sdk_fails("the finding")`` is one where ours is better. The SDK's class is expected
to fail there, strictly: when a newer SDK passes, the suite says so.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from .harness import SdkMiddleware, load_middleware

Class = Callable[..., Any]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "sdk_fails(finding, raises=AssertionError, strict=True): the SDK's class fails, and why",
    )
    # Old Starlettes leave a stream open when an endpoint raises under BaseHTTPMiddleware.
    start = "Exception ignored in. <function MemoryObject"
    config.addinivalue_line(
        "filterwarnings", f"ignore:{start}:pytest.PytestUnraisableExceptionWarning"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "middleware_class" in metafunc.fixturenames:
        metafunc.parametrize("middleware_class", ["ours", "sdk"], indirect=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not isinstance(item, pytest.Function) or not hasattr(item, "callspec"):
            continue
        if item.callspec.params.get("middleware_class") == "sdk":
            for mark in item.iter_markers("sdk_fails"):
                options = {"raises": AssertionError, "strict": True, **mark.kwargs}
                item.add_marker(pytest.mark.xfail(reason=mark.args[0], **options))


@pytest.fixture(scope="session")
def passthrough_auth() -> ModuleType:
    return load_middleware()


@pytest.fixture(scope="session")
def middleware_class(request: pytest.FixtureRequest, passthrough_auth: ModuleType) -> Class:
    if request.param == "sdk":
        return SdkMiddleware
    ours: Class = passthrough_auth.FastAPIPassthroughAuthMiddleware
    return ours


@pytest.fixture(scope="session")
def ours(passthrough_auth: ModuleType) -> Class:
    """Our class, for cases about what the SDK's does not have."""
    cls: Class = passthrough_auth.FastAPIPassthroughAuthMiddleware
    return cls
