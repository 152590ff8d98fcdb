from collections.abc import Iterable

from flyteidl2.common.list_pb2 import ListRequest, Sort

from local_flyte import listing
from local_flyte.listing import Fields

NUMBERS = range(250)
FIELDS: Fields[int] = {
    "number": lambda number: number,
    "parity": lambda number: ("even", "odd")[number % 2],
    "tens": lambda number: number // 10 or None,
}


def page(items: Iterable[int], request: ListRequest) -> tuple[list[int], str]:
    return listing.page(items, request, FIELDS, name=lambda number: f"{number:03}")


def test_the_pages_contain_every_item_once() -> None:
    request = ListRequest(limit=100)
    got: list[int] = []
    for _ in range(3):
        items, request.token = page(NUMBERS, request)
        got += items
    assert got == list(NUMBERS)
    assert request.token == ""


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
