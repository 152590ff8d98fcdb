"""What endpoints take: errors in it are told by their place."""

import pytest
from pydantic import ValidationError

from passthrough.dependencies import RequestBody


class Numbers(RequestBody):
    numbers: list[int]


def test_pydantic_makes_few_errors_for_many_unknown_keys() -> None:
    with pytest.raises(ValidationError) as refused:
        Numbers.model_validate({f"key{number}": 1 for number in range(20_000)})
    assert refused.value.error_count() == 102
