"""A pytest plugin that leaves out the tests that start servers or processes: mutmut forks."""

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests that can run here, where there is no local Flyte and no project."""
    kept = [item for item in items if isinstance(item, pytest.Function) and _is_in_process(item)]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


def _is_in_process(item: pytest.Function) -> bool:
    known = {"request", *item._fixtureinfo.name2fixturedefs}
    if hasattr(item, "callspec"):
        known |= item.callspec.params.keys()
    return "_started_flyte" not in item.fixturenames and {*item.fixturenames} <= known
