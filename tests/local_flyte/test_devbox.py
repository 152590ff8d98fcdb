"""The SDK's command line with the local Flyte as the devbox."""

from pathlib import Path
from typing import Any

import pytest

from local_flyte import LocalFlyte, Mode

from .on_the_wire import PROJECT, call, cli

TASK = """
import flyte

env = flyte.TaskEnvironment(name="open", image="auto")

@env.task
async def double(number: int) -> int:
    return 2 * number

@env.task
async def quadruple(number: int) -> int:
    return await double(await double(number))
"""


@pytest.mark.slow
def test_a_task_is_deployed_and_starts_others_in_nobodys_name(tmp_path: Path) -> None:
    (tmp_path / "open.py").write_text(TASK)
    with LocalFlyte(mode=Mode.DEVBOX) as flyte:
        flyte.deploy(tmp_path, "open.py", "env")
        cli(flyte, "run", "--follow", "deployed-task", "open.quadruple", "--number", "4")

        def ask(method: str, body: object) -> Any:
            return call(flyte, f"workflow.RunService/{method}", body, person="bob").json()

        ((run,),) = ask("ListRuns", {"projectId": PROJECT}).values()
        actions = ask("ListActions", {"runId": run["action"]["id"]["run"]})["actions"]
    assert run["action"]["status"]["phase"] == "ACTION_PHASE_SUCCEEDED"
    assert "executedBy" not in run["action"]["metadata"]
    assert len(actions) == 3
