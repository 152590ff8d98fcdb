"""Fixtures for the class under test.

Every case that takes ``cls`` runs with our class and with the SDK's.

The SDK's class is expected to fail cases marked ``sdk_fails("the finding")``. This is strict: the
suite fails if a newer SDK passes one.
"""

import functools
from types import ModuleType
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from .harness import Class, Extractors, SdkMiddleware, import_copy


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "either_class" in metafunc.fixturenames:
        classes = ["ours", "overriding", "sdk"]
        metafunc.parametrize("either_class", classes, indirect=True, scope="module")
    elif "cls" in metafunc.fixturenames:
        metafunc.parametrize("cls", ["ours", "sdk"], indirect=True, scope="module")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        if "sdk" in (parameters.get("cls"), parameters.get("either_class")):
            for mark in item.iter_markers("sdk_fails"):
                options = {"raises": AssertionError, "strict": True, **mark.kwargs}
                item.add_marker(pytest.mark.xfail(reason=mark.args[0], **options))


@pytest.fixture(scope="session")
def passthrough_auth() -> ModuleType:
    return import_copy("passthrough_auth")


@pytest.fixture(scope="session")
def ours(passthrough_auth: ModuleType) -> Class:
    """Our class, for features that the SDK's does not have."""
    return passthrough_auth.FastAPIPassthroughAuthMiddleware


@pytest.fixture(scope="module")
def cls(request: pytest.FixtureRequest, ours: Class) -> Class:
    return SdkMiddleware if request.param == "sdk" else ours


@pytest.fixture(scope="module")
def either_class(request: pytest.FixtureRequest, ours: Class) -> Class:
    """The classes, and a subclass of ours that overrides ``dispatch``."""
    if request.param != "overriding":
        return SdkMiddleware if request.param == "sdk" else ours

    class Overriding(ours):  # type: ignore[misc]
        async def dispatch(self, request: Request, call_next: Any) -> Response:
            response: Response = await super().dispatch(request, call_next)
            return response

    return Overriding


@pytest.fixture(params=["default", "callables"])
def extractors(request: pytest.FixtureRequest, cls: Class) -> Extractors:
    """The default extractors, and an owner's callables that do the same."""
    if request.param == "default":
        return None
    both = cls.extract_authorization_header, cls.extract_cookie_header
    return [functools.partial(extractor) for extractor in both]
