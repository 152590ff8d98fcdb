"""Filters, sorting and pages for a ``flyteidl2.common.ListRequest``, as the SDK asks for them."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, TypeVar

from flyteidl2.common import list_pb2

from .access import invalid

Item = TypeVar("Item")
Value = str | int | datetime | None
Fields = Mapping[str, Callable[[Item], Value]]
"""The fields for filters and sorting, with functions that return their values."""

_Filter = list_pb2.Filter
PAGE = 50
MAX_PAGE = 200


def page(
    items: Iterable[Item],
    request: list_pb2.ListRequest,
    fields: Fields[Item],
    *,
    name: Callable[[Item], str],
) -> tuple[list[Item], str]:
    """Filter and sort items; return a page, and the token for the next ("" on the last one).

    Items that are equal in the requested order are sorted by name.
    """
    if request.limit > MAX_PAGE:
        raise invalid(f"limit {request.limit} exceeds the maximum of {MAX_PAGE}")
    limit = request.limit or PAGE
    found = sorted(matching(items, request, fields), key=name)
    if (sort := request.sort_by).key:
        field, descending = _field(sort.key, fields), sort.direction == list_pb2.Sort.DESCENDING
        # None is greatest, and never compared.
        found.sort(key=lambda item: (field(item) is None, field(item)), reverse=descending)
    if request.token and not (request.token.isascii() and request.token.isdigit()):
        raise invalid(f"invalid page token {request.token!r}")
    start = int(request.token or 0)
    end = start + limit
    return found[start:end], str(end) if end < len(found) else ""


def matching(
    items: Iterable[Item], request: list_pb2.ListRequest, fields: Fields[Item]
) -> list[Item]:
    """Return the items that match every filter of the request."""
    found = list(items)
    for asked in request.filters:
        field = _field(asked.field, fields)
        if (compare := _COMPARISONS.get(asked.function)) is None:
            raise invalid(f"unsupported function {_Filter.Function.Name(asked.function)}")
        found = [item for item in found if _matches(field(item), compare, asked.values)]
    return found


def _field(name: str, fields: Fields[Item]) -> Callable[[Item], Any]:
    if name not in fields:
        raise invalid(f"unknown field {name!r}; known are {', '.join(sorted(fields))}")
    return fields[name]


def _matches(value: Value, compare: Callable[..., bool], wanted: Iterable[str]) -> bool:
    return value is not None and any(compare(value, _parsed(text, value)) for text in wanted)


def _parsed(text: str, like: Value) -> Value:
    if isinstance(like, datetime):
        return datetime.fromisoformat(text)
    return int(text) if isinstance(like, int) else text


_COMPARISONS: dict[int, Callable[..., bool]] = {
    _Filter.EQUAL: lambda value, wanted: value == wanted,
    _Filter.GREATER_THAN_OR_EQUAL: lambda value, wanted: value >= wanted,
    _Filter.LESS_THAN: lambda value, wanted: value < wanted,
    _Filter.CONTAINS: lambda value, wanted: wanted in value,
    _Filter.VALUE_IN: lambda value, wanted: value == wanted,
}
