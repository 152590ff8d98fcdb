"""The app's operations. Each has a name of its own, in the OpenAPI document and as a tool."""

import inspect
from collections.abc import Iterable
from typing import Any

from fastapi.routing import APIRoute, RouteContext, iter_route_contexts
from starlette.routing import BaseRoute

from ..calls.errors import StartError


def operation_id(route: RouteContext) -> str | None:
    """Return the id of a route's operation, or None if it is in no OpenAPI document."""
    if isinstance(route.original_route, APIRoute) and route.include_in_schema:
        name: str = route.operation_id or route.unique_id
        return name
    return None


def operations_by_id(routes: Iterable[BaseRoute]) -> dict[str, RouteContext]:
    """Return the operations of an OpenAPI document by their ids, which are names of functions.

    Raises:
        StartError: Two have one id. The message says where both are.
    """
    found: dict[str, RouteContext] = {}
    for route in iter_route_contexts([*routes]):
        if (name := operation_id(route)) is None:
            continue
        if name in found:
            raise StartError(
                f"cannot start: {_where(found[name])} and {_where(route)} have one name, {name}."
                " Rename one of the functions: operations and tools are called like them."
            )
        if len(route.methods or ()) > 1:
            raise StartError(
                f"cannot start: {_where(route)} has several methods, but would be one operation."
                " Write a function for each, or set include_in_schema=False."
            )
        found[name] = route
    return found


def _where(route: RouteContext) -> str:
    endpoint: Any = route.endpoint
    code = getattr(inspect.unwrap(endpoint), "__code__", None)
    place = f" ({code.co_filename}, line {code.co_firstlineno})" if code else ""
    return f"{', '.join(sorted(route.methods or ()))} {route.path}{place}"
