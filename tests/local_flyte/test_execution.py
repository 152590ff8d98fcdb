"""Runs with several actions, as the SDK and its command see them."""

import pytest
from flyte import remote
from flyte.models import ActionPhase
from flyteidl2.common.phase_pb2 import ACTION_PHASE_ABORTED as ABORTED
from flyteidl2.workflow import run_definition_pb2

from local_flyte import LocalFlyte
from local_flyte.testing import acting_as, ended, start, wait_until

from .on_the_wire import cli

pytestmark = pytest.mark.slow

TASKS = """
import asyncio
import flyte

env = flyte.TaskEnvironment(name="family", image="auto")

@flyte.trace
async def doubled(number: int) -> int:
    return 2 * number

@env.task
async def child(number: int) -> int:
    return await doubled(number)

@env.task
async def parent(numbers: list[int]) -> int:
    return sum(await asyncio.gather(*map(child, numbers)))

@env.task
async def endless() -> int:
    print("waiting for ever", flush=True)
    await asyncio.sleep(100_000)
    return 0

@env.task
async def parent_of_endless() -> int:
    return await endless()
"""


@pytest.fixture(scope="module", autouse=True)
def _deployed(
    local_flyte: LocalFlyte,
    flyte_variables: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Tasks that start other tasks."""
    root = tmp_path_factory.mktemp("family")
    (root / "family.py").write_text(TASKS)
    local_flyte.deploy(root, "family.py", "env")


def details(run: str) -> dict[str, run_definition_pb2.ActionDetails]:
    """Return a run's actions, in every detail, by the name of the task or trace."""
    with acting_as("bob"):
        names = [each.pb2.id.name for each in remote.Action.listall(for_run_name=run)]
        found = [remote.ActionDetails.get(run_name=run, name=name).pb2 for name in names]
    return {each.metadata.funtion_name: each for each in found}


def phase(run: str) -> str:
    with acting_as("bob"):
        return ActionPhase(remote.Run.get(run).phase).value


def test_a_task_awaits_others_and_their_traces() -> None:
    run = ended(start("family.parent", numbers=[1, 2]))
    assert phase(run) == "succeeded"
    with acting_as("alice"):
        assert remote.Run.get(run).outputs()[0] == 6
    found = details(run)
    assert found["family.parent"].metadata.executed_by.user.spec.email == "alice@example.com"
    assert found["family.child"].metadata.parent == "a0"
    assert found["doubled"].metadata.parent != "a0"


def test_a_contributor_may_abort_anyones_run_with_all_its_actions(local_flyte: LocalFlyte) -> None:
    run = start("family.parent_of_endless", "bob")
    wait_until(lambda: "family.endless" in details(run))
    cli(local_flyte, "abort", "run", run, person="alice")
    wait_until(lambda: {each.status.phase for each in details(run).values()} == {ABORTED})
    assert details(run)["family.parent_of_endless"].abort_info.reason
    assert not details(run)["family.endless"].abort_info.HasField("aborted_by")


def test_the_cli_starts_a_run_and_follows_its_log(local_flyte: LocalFlyte) -> None:
    child = ("deployed-task", "family.child", "--number", "4")
    printed = cli(local_flyte, "run", "--follow", *child)
    assert phase(printed.partition("Created Run: ")[2].split()[0]) == "succeeded"
    assert "runtime completed" in printed
