"""Fixtures for the class under test.

Every case that takes ``middleware_class`` runs with our class and with the SDK's.

The SDK's class is expected to fail cases marked ``sdk_fails("the finding")``. This is strict: the
suite fails if a newer SDK passes one.
"""

import functools
from types import ModuleType
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from .harness import SERVERS, Class, Extractors, SdkMiddleware, load_middleware


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
    """Our class, for features that the SDK's does not have."""
    cls: Class = passthrough_auth.FastAPIPassthroughAuthMiddleware
    return cls


@pytest.fixture(scope="session", params=["class", "subclass"])
def either_class(request: pytest.FixtureRequest, middleware_class: Class) -> Class:
    """The class itself, and one that overrides ``dispatch``."""
    if request.param == "class":
        return middleware_class

    class Overriding(middleware_class):  # type: ignore[misc, valid-type]
        async def dispatch(self, request: Request, call_next: Any) -> Response:
            response: Response = await super().dispatch(request, call_next)
            return response

    return Overriding


@pytest.fixture(params=["default", "callables"])
def extractors(request: pytest.FixtureRequest, middleware_class: Any) -> Extractors:
    """The default extractors, and an owner's callables that do the same."""
    if request.param == "default":
        return None
    return [
        functools.partial(middleware_class.extract_authorization_header),
        functools.partial(middleware_class.extract_cookie_header),
    ]


@pytest.fixture(scope="module", params=SERVERS, ids="-".join)
def server(request: pytest.FixtureRequest) -> dict[str, str]:
    """Each combination of event loop and parser in uvicorn."""
    return dict(zip(("loop", "http"), request.param, strict=True))
