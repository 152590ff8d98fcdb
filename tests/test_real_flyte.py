"""The generated project's tests against a Flyte that is not theirs, as its README says.

No cluster is available here: a local Flyte in a process of its own stands for one.
"""

import re
import shlex
from pathlib import Path

import pytest

from .baking import Baker, run
from .long_running import running

pytestmark = pytest.mark.slow


def test_the_projects_tests_run_against_another_flyte(
    baker: Baker, environment: Path, tmp_path: Path
) -> None:
    project, python = baker(tmp_path), environment / "bin" / "python"
    flyte = [str(python), "-m", "local_flyte", "--flyte-only"]
    with running(flyte, project, PYTHONPATH=str(project)) as server:
        printed = server.wait_until_ready()
        exports = re.findall(r"^ *export (\w+)=(.*)$", printed, re.MULTILINE)
        tokens = dict(re.findall(r"^ *(alice|bob) +(\S+) ", printed, re.MULTILINE))
        variables = {name: shlex.split(value)[0] for name, value in exports}
        (config,) = re.findall(r"flyte -c (\S+)", printed)
        deploy = ["deploy", "tests/deployed_tasks.py", "env"]
        run([python.with_name("flyte"), "-c", config, *deploy], project)
        said = run(
            [python, "-m", "pytest"],
            project,
            FLYTE_TEST_ENDPOINT=variables["_U_EP_OVERRIDE"],
            FLYTE_TEST_TOKEN_ALICE=tokens["alice"],
            FLYTE_TEST_TOKEN_BOB=tokens["bob"],
            SSL_CERT_FILE=variables["SSL_CERT_FILE"],
        )
    passed, skipped = re.search(r"(\d+) passed, (\d+) skipped", said).groups()  # type: ignore[union-attr]
    assert int(passed) > 30
    assert int(skipped) > 30
    assert "shows something of the local Flyte only" in said
