"""Runs the project's tests and the conformance cases against another Flyte.

A local Flyte server replaces the real one, because no cluster is available.
"""

import re
from pathlib import Path

import pytest
from template import ROOT

from local_flyte import PEOPLE, LocalFlyte

from .baking import BIN, ended, run

pytestmark = pytest.mark.slow


# With Union's rights, the tests also run in test_readme.py.
@pytest.mark.weekly
def test_project_tests_pass_on_another_flyte(project: Path, local_flyte: LocalFlyte) -> None:
    local_flyte.deploy(project, "tests/deployed_tasks.py", "env")
    local_flyte.register(project)  # like make deploy
    variables_of_tests = {
        "FLYTE_TEST_ENDPOINT": local_flyte.endpoint,
        "FLYTE_TEST_TOKEN_ALICE": PEOPLE["alice"].token,
        "FLYTE_TEST_TOKEN_BOB": PEOPLE["bob"].token,
        "SSL_CERT_FILE": str(local_flyte.ca_file),
    }
    output = run([BIN / "python", "-m", "pytest", "tests"], project, **variables_of_tests)
    passed = re.search(r"(\d+) passed, (\d+) skipped", output)
    assert passed, output
    assert int(passed[1]) >= 40


def test_flyte_without_authentication_is_refused(default_project: Path) -> None:
    """The refusal is one sentence."""
    command = [str(BIN / "python"), "-m", "pytest", "tests/test_me.py"]
    done = ended(command, default_project, FLYTE_TEST_ENDPOINT="http://127.0.0.1:1")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert done.stdout.startswith("ERROR: the tests need a Flyte with TLS and authentication")
    assert done.stdout.count("\n") <= 2


@pytest.mark.weekly
@pytest.mark.parametrize(
    ("person", "project", "code", "output"),
    [
        ("alice", "flytesnacks", 0, "no token of victor"),
        ("alice", "another", 2, "Check the config and the tokens for https://127.0.0.1:"),
        ("victor", "flytesnacks", 2, "The tasks of the cases cannot be deployed"),
    ],
)
def test_conformance_command_passes_or_explains_failure(
    local_flyte: LocalFlyte, tmp_path: Path, *, person: str, project: str, code: int, output: str
) -> None:
    page = (ROOT / "tests" / "conformance" / "README.md").read_text("utf-8")
    (command,) = re.findall(r"^uv (run .*?)\n```", page, re.MULTILINE | re.DOTALL)
    config = tmp_path / "config.yaml"
    text = local_flyte.config_file(person).read_text("utf-8")
    config.write_text(text.replace("flytesnacks", project))
    command = command.replace("\\\n", "").replace("~/.flyte/config.yaml", str(config))
    tokens = {name: PEOPLE[name].token for name in ("alice", "bob")}
    variables = {f"FLYTE_TEST_TOKEN_{name.upper()}": token for name, token in tokens.items()}
    done = ended([BIN / "uv", *command.split()], ROOT, **variables)
    assert (done.returncode, output in done.stdout) == (code, True), done.stdout
    assert not any(token in done.stdout for token in tokens.values())
