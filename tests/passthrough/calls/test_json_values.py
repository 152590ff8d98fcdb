"""Values are JSON in the SDK's own calls; large ones are translated in a thread."""

import threading
from typing import Any

import httpx
import msgpack
import pytest

from passthrough.calls.json_values import translated
from passthrough.limits import Budget, Limits, TooComplexError, current_limits, limits
from passthrough.values.outputs import to_json

from .. import naive_endpoints
from ..support import router_of
from ..values.hostile import binary

router = router_of(naive_endpoints)


@pytest.mark.anyio
async def test_large_values_are_converted_in_worker_thread() -> None:
    strict = Limits(max_depth=3)
    token = current_limits.set(strict)
    for size, is_here in ((10_000, True), (2**20, False)):
        literals = [("a", binary(msgpack.packb("a" * size)))]

        def shown(budget: Budget, literals: Any = literals) -> Any:
            return to_json(literals, budget), threading.get_ident(), limits()

        made, thread, found = await translated(shown)
        assert (made, found) == ({"a": "a" * size}, strict)
        assert (thread == threading.get_ident()) == is_here
    with pytest.raises(TooComplexError):
        await translated(lambda budget: budget.spend(4))
    current_limits.reset(token)


def test_inputs_and_outputs_are_json_by_name(alice: httpx.Client) -> None:
    run = alice.post("/tasks/tests.split/run", json={"text": "Ada"}).json()
    assert run["outputs"] == {"o0": 3, "o1": "A"}
    data = {"inputs": {"text": "Ada"}, "outputs": [3, "A"]}  # Flyte sorts them by name
    assert alice.get(f"/runs/{run['name']}/io").json() == data
