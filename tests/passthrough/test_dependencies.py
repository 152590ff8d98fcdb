"""What endpoints take: errors in it are told by their place."""

import pytest
from pydantic import TypeAdapter, ValidationError

from passthrough.dependencies import QueryTime, RequestBody


class Numbers(RequestBody):
    numbers: list[int]


def test_many_unknown_keys_make_few_errors() -> None:
    with pytest.raises(ValidationError) as refused:
        Numbers.model_validate({f"key{number}": 1 for number in range(20_000)})
    assert refused.value.error_count() == 102


@pytest.mark.parametrize("text", ["0.5", "1700000000", "20260131", "2026-01-31"])
def test_query_time_rejects_numbers_and_dates(text: str) -> None:
    with pytest.raises(ValidationError, match="such as 2026-01-31T09:30:00Z"):
        TypeAdapter(QueryTime).validate_python(text)
    assert TypeAdapter(QueryTime).validate_python("2026-01-31T09:30:00+02:00").tzinfo
