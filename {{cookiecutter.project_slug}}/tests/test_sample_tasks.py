"""The sample tasks in app/tasks.py: delete this file together with them."""

import asyncio

import pytest
from flyte import remote

from app.tasks import count, greet, task_env
from local_flyte import LocalFlyte

from .support import ROOT, authorization_of


def test_greet() -> None:
    assert asyncio.run(greet("Ada")) == "Hello, Ada."
    assert asyncio.run(greet("Ada", excited=True)) == "Hello, Ada!"


def test_count() -> None:
    assert asyncio.run(count(1)) == 1
    with pytest.raises(ValueError, match="cannot count to 0"):
        asyncio.run(count(0))


@pytest.mark.deploys
def test_they_are_deployed_under_their_names(local_flyte: LocalFlyte, app_url: str) -> None:
    local_flyte.deploy(ROOT, env="task_env")
    with remote.auth_metadata(("authorization", authorization_of("alice"))):
        deployed = {task.name for task in remote.Task.listall()}
    assert {f"{task_env.name}.greet", f"{task_env.name}.count"} <= deployed
