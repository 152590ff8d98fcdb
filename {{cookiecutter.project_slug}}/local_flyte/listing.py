"""Filters, sorting and pagination for a ``flyteidl2.common.ListRequest``."""

import operator
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, TypeVar

from flyteidl2.common import list_pb2

from .access import invalid

Item = TypeVar("Item")
Value = str | int | datetime | None
Fields = Mapping[str, Callable[[Item], Value]]
"""Maps the name of a field to a function that returns the field of an item."""
_Filter = list_pb2.Filter
PAGE_SIZE = 50
MAX_PAGE_SIZE = 200


def page(
    items: Iterable[Item],
    request: list_pb2.ListRequest,
    fields: Fields[Item],
    *,
    name: Callable[[Item], str],
) -> tuple[list[Item], str]:
    """Filter items, and sort them by the request's key and by name.

    Return one page, and the token of the next page ("" if there is none).
    """
    if request.limit > MAX_PAGE_SIZE:
        raise invalid(f"limit {request.limit} exceeds the maximum of {MAX_PAGE_SIZE}")
    if request.token and not (request.token.isascii() and request.token.isdigit()):
        raise invalid(f"invalid page token {request.token!r}")
    matches = sorted(matching(items, request, fields), key=name)
    if (sort := request.sort_by).key:
        field, descending = _field(sort.key, fields), sort.direction == list_pb2.Sort.DESCENDING
        # Treat None as greater than all values, because Python cannot compare None with a value.
        matches.sort(key=lambda item: (field(item) is None, field(item)), reverse=descending)
    start = int(request.token or 0)
    end = start + (request.limit or PAGE_SIZE)
    return matches[start:end], str(end) if end < len(matches) else ""


def matching(
    items: Iterable[Item], request: list_pb2.ListRequest, fields: Fields[Item]
) -> list[Item]:
    """Return the items that match every filter of the request."""
    matches = list(items)
    for condition in request.filters:
        field = _field(condition.field, fields)
        if (compare := _COMPARISONS.get(condition.function)) is None:
            raise invalid(f"unsupported function {_Filter.Function.Name(condition.function)}")
        matches = [item for item in matches if _matches(field(item), compare, condition.values)]
    return matches


def _field(name: str, fields: Fields[Item]) -> Callable[[Item], Any]:
    if name not in fields:
        raise invalid(f"unknown field {name!r}; known fields are {', '.join(sorted(fields))}")
    return fields[name]


def _matches(value: Value, compare: Callable[..., bool], operands: Iterable[str]) -> bool:
    return value is not None and any(compare(value, _parsed(text, value)) for text in operands)


def _parsed(text: str, like: Value) -> Value:
    if isinstance(like, datetime):
        return datetime.fromisoformat(text)
    return int(text) if isinstance(like, int) else text


_COMPARISONS: dict[int, Callable[..., bool]] = {
    _Filter.EQUAL: operator.eq,
    _Filter.GREATER_THAN_OR_EQUAL: operator.ge,
    _Filter.LESS_THAN: operator.lt,
    _Filter.CONTAINS: operator.contains,
    _Filter.VALUE_IN: operator.eq,
}
