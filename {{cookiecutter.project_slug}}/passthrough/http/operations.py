"""The app's operations. Each has a name of its own, in the OpenAPI document and as a tool."""

from collections.abc import Iterable

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
        StartError: Several have one id.
    """
    found: dict[str, RouteContext] = {}
    for route in iter_route_contexts([*routes]):
        if name := operation_id(route):
            places = [
                f"{', '.join(sorted(one.methods or ()))} {one.path}"
                for one in (found.get(name), route)
                if one
            ]
            if len(places) > 1 or len(route.methods or ()) > 1:
                raise StartError(
                    f"cannot start: {' and '.join(places)} would be one operation, {name}. Write a"
                    " function for each, with a name of its own, or set include_in_schema=False."
                )
            found[name] = route
    return found
