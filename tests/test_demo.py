"""Tests of the steps in README.md, "Try it", in a fresh clone."""

import json
import shutil
import signal
from pathlib import Path

import pytest
from template import ROOT

from local_flyte.__main__ import PORT

from .baking import run
from .long_running import Running, curl_lines, running
from .walkthrough import clone, code_block, for_make, path_with_tools


@pytest.fixture(scope="module")
def cloned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clone(tmp_path_factory.mktemp("demo") / "cookiecutter-flyte-app")


def check_two_people_and_end(app: Running) -> None:
    """Run the printed ``curl`` lines of alice, bob and a viewer, and press Ctrl-C."""
    quiet = ["--silent", "--show-error", "--noproxy", "*"]
    lines = curl_lines(app.wait_until_ready())
    responses = [(line[-1], json.loads(run([*line, *quiet], ROOT))) for line in lines]
    assert len({response["subject"] for url, response in responses if url.endswith("/me")}) == 2, (
        responses
    )
    runs = [response for url, response in responses if url.endswith("/runs")]
    assert len({response["name"] for response in runs if "name" in response}) == 2, runs
    assert [response["status"] for response in runs if "status" in response] == [403], runs
    # An interrupted make fails or is killed by the signal, but the command exits cleanly.
    assert app.interrupt() in {0, 2, 130, -signal.SIGINT}, app.printed()
    assert "Traceback" not in app.printed()
    assert app.left_over() == []


@pytest.mark.slow
def test_make_demo_in_fresh_clone_serves_users(cloned: Path) -> None:
    """It leaves no processes and no files behind."""
    (command,) = code_block("Try it")
    editor = json.loads((cloned / ".devcontainer" / "devcontainer.json").read_text("utf-8"))
    assert (editor["postAttachCommand"], editor["forwardPorts"]) == (command, [PORT])
    assert editor["postCreateCommand"] == "make .venv/installed"  # which `make test` also does
    with running(command.split(), cloned, PWD=str(cloned), **for_make()) as app:
        app.wait_until_ready()
        assert "make dev" not in app.printed()
        assert f"\n  cd {cloned}/.demo/my-flyte-app\n" in app.printed()  # for the flyte commands
        check_two_people_and_end(app)
    assert run(["git", "status", "--porcelain"], cloned) == ""


@pytest.mark.slow
@pytest.mark.weekly
def test_demo_runs_without_make(cloned: Path, tmp_path: Path) -> None:
    *setup, last = code_block("Try it", 1)
    path = path_with_tools(tmp_path / "bin")
    shutil.rmtree(cloned / ".venv", ignore_errors=True)
    for command in setup:
        run(["sh", "-c", command], cloned, PATH=path)
    with running(last.split(), cloned, PATH=path) as app:
        check_two_people_and_end(app)
