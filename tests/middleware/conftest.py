"""Fixtures for the class under test."""

import os
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from .harness import Class, SdkMiddleware, import_copy


@pytest.fixture
def anyio_backend() -> str:
    """Run coroutine tests with asyncio."""
    return "asyncio"


@pytest.fixture(scope="session")
def cls() -> Class:
    """Return our class, or the SDK's class when `test_sdk_class.py` runs these tests."""
    if os.environ.get("PASSTHROUGH_AUTH_CLASS") == "sdk":
        return SdkMiddleware
    return import_copy("passthrough_auth").FastAPIPassthroughAuthMiddleware


@pytest.fixture(scope="module", params=["as it is", "overriding"])
def either(request: pytest.FixtureRequest, cls: Class) -> Class:
    """Return the class, then a subclass that overrides ``dispatch``."""

    class Overriding(cls):  # type: ignore[misc]
        async def dispatch(self, request: Request, call_next: Any) -> Response:
            response: Response = await super().dispatch(request, call_next)
            return response

    return Overriding if request.param == "overriding" else cls
