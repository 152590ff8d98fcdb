"""The local Flyte, in all three kinds, answers as the real ones do."""

from collections.abc import Iterator

import pytest

from .local import local_target
from .runner import KINDS, Case, Runner, cases

CASES = cases()
EXPECTED = [(kind, case) for kind in KINDS for case in CASES if kind in case.kinds]


@pytest.fixture(scope="module")
def runner(request: pytest.FixtureRequest) -> Iterator[Runner]:
    """Return what runs cases against a local Flyte of a kind."""
    with local_target(request.param) as target:
        yield Runner(target)


@pytest.mark.parametrize(
    ("runner", "case"),
    EXPECTED,
    indirect=["runner"],
    ids=lambda value: value if isinstance(value, str) else f"{value.service}: {value.name}",
)
def test_the_local_flyte_answers_as_expected(runner: Runner, case: Case) -> None:
    assert runner.missing(case) is None
    assert runner.run(case) == []


def test_a_difference_is_noticed() -> None:
    """Whatever the runner compares, it sees that it is not there."""
    with local_target("union") as target:
        case = next(case for case in CASES if case.name == "a project has three domains")
        step = dict(case.steps[0])
        runner = Runner(target)
        mistakes: list[dict[str, object]] = [
            {"error": "not_found"},
            {"answer": {"project": {"id": "another"}}},
            {"answer": {"project": {"id": "/[0-9]+/"}}},
            {"answer": {"project": {"id": None}}},
            {"answer": {"project": {"domains": []}}},
            {"messages": {"count": 2}},
            {"messages": {"last": {"project": {"name": "another"}}}},
        ]
        for wrong in mistakes:
            changed = Case(case.service, case.name, case.kinds, [{**step, **wrong}])
            assert len(runner.run(changed)) == 1, wrong
