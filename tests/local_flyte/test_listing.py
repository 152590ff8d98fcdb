from collections.abc import Iterable

import pytest
from connectrpc.errors import ConnectError
from flyteidl2.common.list_pb2 import Filter, ListRequest, Sort

from local_flyte import listing
from local_flyte.listing import Fields

NUMBERS = range(250)
FIELDS: Fields[int] = {
    "number": lambda number: number,
    "parity": lambda number: ("even", "odd")[number % 2],
    "tens": lambda number: number // 10 or None,
}


def page(
    items: Iterable[int], request: ListRequest, *, eager: bool = False
) -> tuple[list[int], str]:
    return listing.page(items, request, FIELDS, name=lambda number: f"{number:03}", eager=eager)


def test_the_pages_contain_every_item_once() -> None:
    request = ListRequest(limit=100)
    got: list[int] = []
    for _ in range(3):
        items, request.token = page(NUMBERS, request)
        got += items
    assert got == list(NUMBERS)
    assert request.token == ""


@pytest.mark.parametrize(
    ("filter_", "count"),
    [
        (Filter(function=Filter.EQUAL, field="parity", values=["odd"]), 125),
        (Filter(function=Filter.NOT_EQUAL, field="parity", values=["odd"]), 125),
        (Filter(function=Filter.VALUE_IN, field="number", values=["3", "4", "999"]), 2),
        (Filter(function=Filter.GREATER_THAN_OR_EQUAL, field="number", values=["240"]), 10),
        (Filter(function=Filter.LESS_THAN, field="tens", values=["2"]), 10),
        (Filter(function=Filter.CONTAINS, field="parity", values=["ve"]), 125),
        (Filter(function=Filter.ENDS_WITH, field="parity", values=["n"]), 125),
        (Filter(function=Filter.NOT_ENDS_WITH, field="parity", values=["n"]), 125),
        (Filter(function=Filter.CONTAINS_CASE_INSENSITIVE, field="parity", values=["VE"]), 125),
    ],
)
def test_filters(filter_: Filter, count: int) -> None:
    got = []
    request = ListRequest(filters=[filter_])
    while True:
        items, request.token = page(NUMBERS, request)
        got += items
        if not request.token:
            break
    assert len(got) == count


def test_items_are_sorted_by_the_first_field_and_then_the_next() -> None:
    by = [
        Sort(key="parity", direction=Sort.DESCENDING),
        Sort(key="number", direction=Sort.DESCENDING),
    ]
    assert page(range(5), ListRequest(sort_by_fields=by))[0] == [3, 1, 4, 2, 0]
    missing_last = Sort(key="tens", direction=Sort.ASCENDING)
    assert page([25, 5, 15], ListRequest(sort_by=missing_last))[0] == [15, 25, 5]
    missing_first = Sort(key="tens", direction=Sort.DESCENDING)
    assert page([25, 5, 15], ListRequest(sort_by=missing_first))[0] == [5, 25, 15]


def test_equal_items_are_sorted_by_name() -> None:
    newest = Sort(key="parity", direction=Sort.DESCENDING)
    assert page([5, 2, 3, 1], ListRequest(sort_by=newest))[0] == [1, 3, 5, 2]


def test_a_page_has_50_items_by_default_and_a_token_if_there_are_more() -> None:
    assert page(range(51), ListRequest()) == (list(range(50)), "50")
    assert page(range(50), ListRequest()) == (list(range(50)), "")
    assert page(range(51), ListRequest(token="50")) == ([50], "")


def test_some_lists_return_a_token_for_every_full_page() -> None:
    assert page(range(50), ListRequest(), eager=True)[1] == "50"
    assert page(range(50), ListRequest(token="50"), eager=True) == ([], "")
    assert page(range(49), ListRequest(), eager=True)[1] == ""


@pytest.mark.parametrize(
    "request_",
    [
        ListRequest(token="x"),
        ListRequest(token="-1"),
        ListRequest(limit=201),
        ListRequest(sort_by=Sort(key="colour")),
        ListRequest(filters=[Filter(function=Filter.EQUAL, field="colour", values=["red"])]),
        ListRequest(filters=[Filter(function=Filter.EQUAL, field="number", values=["one"])]),
        ListRequest(filters=[Filter(function=Filter.EQUAL, field="number", values=["1", "2"])]),
        ListRequest(filters=[Filter(function=Filter.EQUAL, field="number")]),
        ListRequest(filters=[Filter(function=Filter.VALUE_NOT_IN, field="number", values=["3"])]),
        ListRequest(filters=[Filter(function=Filter.EXISTS, field="number", values=["3"])]),
        ListRequest(filters=[Filter(function=Filter.NOT_EXISTS, field="number", values=["3"])]),
    ],
)
def test_a_nonsensical_request_is_an_invalid_argument(request_: ListRequest) -> None:
    with pytest.raises(ConnectError) as refusal:
        page(NUMBERS, request_)
    assert refusal.value.code.value == "invalid_argument"
