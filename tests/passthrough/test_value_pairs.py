"""Values of random types, sent by the SDK and by `to_literals`, as a task reads them."""

# mypy: ignore-errors
# It makes types at run time.

import asyncio
import dataclasses
import datetime as dt
import decimal
import json
import uuid
from collections import Counter
from typing import Any, Literal, NamedTuple, Optional, TypedDict, Union, get_args

import pydantic
import pytest
from flyte.types import TypeEngine
from hypothesis import HealthCheck, assume, given, reject, settings
from hypothesis import strategies as st

from passthrough.values import InvalidInputs, to_json, to_literals

from .support import as_a_task_reads
from .test_literals import Color, Level, Swapped

PLAIN = [int, float, str, bool, dt.datetime, dt.date, dt.timedelta, Color, Swapped, Level]
IN_FIELDS = [*PLAIN, dt.time, uuid.UUID, decimal.Decimal, Literal["a", "b"]]
IN_DATACLASSES = [*IN_FIELDS, set[int], dict[int, str], tuple[int, ...]]
NUMBERS = [int, float, bool, type(None)]
"""With a text in a union; JSON does not tell a date from a text, for example."""
st.register_type_strategy(float, st.floats(allow_nan=False, allow_infinity=False))  # text in JSON


@st.composite
def types(draw: Any, depth: int = 0, inside: str = "") -> Any:  # noqa: PLR0911
    """Make a type; ``inside`` is "dataclass" or "model", or "" for a task's parameter."""
    forms = [list, dict, Optional, Union, dataclasses]
    forms += [pydantic] * (inside != "dataclass")  # mashumaro does not encode models
    forms += [tuple] * (depth == 0 or bool(inside)) + [NamedTuple, TypedDict] * (depth == 0)
    plain = {"": PLAIN, "model": IN_FIELDS, "dataclass": IN_DATACLASSES}[inside]
    form = draw(st.sampled_from([*forms, None, None] if depth < 3 else [None]))

    def fields(inside: str) -> dict[str, Any]:
        return {name: draw(types(depth + 1, inside)) for name in "abc"[: draw(st.integers(1, 3))]}

    if form is None:
        return draw(st.sampled_from(plain))
    if form is Union:
        kinds = draw(st.sampled_from([[*NUMBERS, str], [dt.date, Color, *NUMBERS]]))
        other = draw(types(depth + 1, inside)) if str not in kinds else kinds[0]
        made = Union[(*draw(st.permutations(kinds))[:3], other)]
        assume(str in kinds or str not in get_args(made))
        return made
    if form is tuple:
        return tuple[draw(types(depth + 1, "model")), draw(types(depth + 1, "model"))]
    if form is NamedTuple:
        return NamedTuple("Named", [*fields("model").items()])
    if form is TypedDict:
        return TypedDict("Typed", fields("model"))
    if form is dataclasses:
        return dataclasses.make_dataclass("Data", fields(inside or "dataclass").items())
    if form is pydantic:
        made = {name: (kind, ...) for name, kind in fields("model").items()}
        return pydantic.create_model("Model", **made)
    item = draw(types(depth + 1, inside))
    return form[str, item] if form is dict else form[item]


def canonical(value: Any) -> Any:
    """Return what is compared: types too, but neither the order of keys nor the kind of UTC."""
    if isinstance(value, dict):
        return sorted((repr(key), canonical(each)) for key, each in value.items())
    if isinstance(value, set):
        return sorted(map(repr, value))
    if isinstance(value, list | tuple):
        return type(value).__name__, [canonical(each) for each in value]
    if dataclasses.is_dataclass(value) or isinstance(value, pydantic.BaseModel):
        return type(value).__name__, canonical(vars(value))
    text = value.isoformat() if isinstance(value, dt.datetime) else repr(value)
    return type(value).__name__, text


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the SDK's
@pytest.mark.parametrize("examples", [50, pytest.param(3_000, marks=pytest.mark.weekly)])
def test_a_task_reads_random_values_as_if_the_sdk_had_sent_them(examples: int) -> None:
    outcomes = Counter[str]()

    @settings(max_examples=examples, deadline=None, suppress_health_check=[*HealthCheck])
    @given(st.data())
    def compare(data: Any) -> None:
        kind = data.draw(types())
        try:
            value = data.draw(st.from_type(kind))
            declared = TypeEngine.to_literal_type(kind)
            theirs = asyncio.run(TypeEngine.to_literal(value, kind, declared))
            expected = as_a_task_reads(theirs, kind)
        except Exception:  # noqa: BLE001 # nothing that the SDK can send
            reject()
        shown = json.loads(json.dumps(to_json([("a", theirs)])["a"]))
        try:
            ours = to_literals({"a": shown}, {"a": declared})["a"]
        except InvalidInputs:  # what the SDK writes for some unions fits none of their types
            outcomes["refused"] += 1
            return
        outcomes["sent"] += 1
        assert canonical(as_a_task_reads(ours, kind)) == canonical(expected)

    compare()
    assert outcomes["refused"] < 0.1 * outcomes["sent"]
