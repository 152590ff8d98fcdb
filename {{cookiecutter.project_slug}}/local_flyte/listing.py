"""Filters, order and pages, as ``flyteidl2.common.ListRequest`` asks for them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyteidl2.common import list_pb2

Item = TypeVar("Item")
Value = str | int | datetime | None
Fields = Mapping[str, Callable[[Item], Value]]
"""What may be filtered and sorted by, and how to get at it."""

_Filter = list_pb2.Filter
MAX_PAGE = 100


def page(
    items: Iterable[Item], request: list_pb2.ListRequest, fields: Fields[Item]
) -> tuple[list[Item], str]:
    """Filter and sort ``items`` and cut one page out of them.

    Returns:
        The items of the page, and the token that gets the next one ("" on the last page).

    Raises:
        ConnectError: INVALID_ARGUMENT for a field, function, value or token that makes no sense.
    """
    found = [
        item for item in items if all(_matches(item, each, fields) for each in request.filters)
    ]
    # Stable sorts, least significant first.
    for sort in reversed(request.sort_by_fields or [request.sort_by]):
        if sort.key:
            found = _sorted(found, _field(sort.key, fields), sort)
    try:
        start = int(request.token or 0)
    except ValueError:
        raise ConnectError(Code.INVALID_ARGUMENT, "the page token is not one of ours") from None
    end = start + min(request.limit or MAX_PAGE, MAX_PAGE)
    return found[start:end], str(end) if end < len(found) else ""


def _field(name: str, fields: Fields[Item]) -> Callable[[Item], Value]:
    try:
        return fields[name]
    except KeyError:
        known = ", ".join(sorted(fields))
        raise ConnectError(
            Code.INVALID_ARGUMENT, f"unknown field {name!r}; known are {known}"
        ) from None


def _sorted(
    items: Sequence[Item], field: Callable[[Item], Value], sort: list_pb2.Sort
) -> list[Item]:
    def key(item: Item) -> tuple[bool, Value]:
        value = field(item)
        return value is not None, value  # None first, and never compared with a value

    return sorted(items, key=key, reverse=sort.direction == list_pb2.Sort.DESCENDING)


def _matches(item: Item, filter_: list_pb2.Filter, fields: Fields[Item]) -> bool:
    value = _field(filter_.field, fields)(item)
    wanted = [_parsed(each, value) for each in filter_.values]
    function = filter_.function
    if function in (_Filter.VALUE_IN, _Filter.VALUE_NOT_IN):
        return (value in wanted) == (function == _Filter.VALUE_IN)
    if len(wanted) != 1:
        raise ConnectError(
            Code.INVALID_ARGUMENT, f"the filter on {filter_.field!r} needs exactly one value"
        )
    compare = _COMPARISONS.get(function)
    if compare is None:
        raise ConnectError(
            Code.INVALID_ARGUMENT, f"unsupported filter function {_Filter.Function.Name(function)}"
        )
    return value is not None and compare(value, wanted[0])


def _parsed(text: str, like: Value) -> Value:
    try:
        if isinstance(like, datetime):
            return datetime.fromisoformat(text)
        return int(text) if isinstance(like, int) else text
    except ValueError:
        raise ConnectError(Code.INVALID_ARGUMENT, f"bad filter value {text!r}") from None


_COMPARISONS: dict[int, Callable[..., bool]] = {
    _Filter.EQUAL: lambda value, wanted: value == wanted,
    _Filter.NOT_EQUAL: lambda value, wanted: value != wanted,
    _Filter.GREATER_THAN: lambda value, wanted: value > wanted,
    _Filter.GREATER_THAN_OR_EQUAL: lambda value, wanted: value >= wanted,
    _Filter.LESS_THAN: lambda value, wanted: value < wanted,
    _Filter.LESS_THAN_OR_EQUAL: lambda value, wanted: value <= wanted,
    _Filter.CONTAINS: lambda value, wanted: wanted in value,
    _Filter.CONTAINS_CASE_INSENSITIVE: lambda value, wanted: wanted.lower() in value.lower(),
}
