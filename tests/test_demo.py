"""The steps in README.md, "Try it", in a fresh clone."""

import json
import shutil
from pathlib import Path

import demo
import pytest

from local_flyte.__main__ import PORT

from .baking import run
from .long_running import running
from .walkthrough import (
    check_two_people_and_end,
    clone,
    code_block,
    devcontainer,
    for_make,
    path_with_tools,
)


def test_a_changed_demo_is_kept_and_an_unchanged_one_is_generated_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "DEMO", tmp_path / ".demo")
    project = demo.generate()
    main, record = project / "app" / "main.py", tmp_path / ".demo" / "generated.json"
    original = main.read_text("utf-8")
    main.write_text("# mine\n", "utf-8")
    assert demo.generate() == project
    assert main.read_text("utf-8") == "# mine\n"
    assert "such as app/main.py" in capsys.readouterr().out
    main.write_text(original, "utf-8")
    # A file of an earlier version of the template; and what tools, and `make dev`, have made.
    removed = project / "app" / "removed.py"
    removed.write_text("", "utf-8")
    record.write_text(json.dumps(demo.generated_files(project)), "utf-8")
    for kept in (".venv", ".local_flyte"):
        (project / kept).mkdir()
        (project / kept / "kept").touch()
    demo.generate()
    assert not removed.exists()
    assert (project / ".venv" / "kept").exists()
    assert (project / ".local_flyte" / "kept").exists()
    assert capsys.readouterr().out == ""


@pytest.fixture(scope="module")
def cloned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clone(tmp_path_factory.mktemp("demo") / "cookiecutter-flyte-app")


@pytest.mark.slow
def test_make_demo_in_a_fresh_clone_shows_two_people_and_leaves_nothing(cloned: Path) -> None:
    (command,) = code_block("Try it")
    editor = devcontainer(cloned)
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
def test_the_demo_without_make(cloned: Path, tmp_path: Path) -> None:
    """In the same clone: installed packages are reused, and a changed project runs as it is."""
    *setup, last = code_block("Try it", 1)
    path = path_with_tools(tmp_path / "bin")
    shutil.rmtree(cloned / ".venv", ignore_errors=True)
    for command in setup:
        run(["sh", "-c", command], cloned, PATH=path)
    project = cloned / ".demo" / "my-flyte-app"
    (project / "app" / "mine.py").write_text("MINE = 1\n")
    with running(last.split(), cloned, PATH=path) as app:
        assert ".demo/my-flyte-app has changes, such as app/mine.py" in app.wait_until_ready()
        check_two_people_and_end(app)
    assert (project / "app" / "mine.py").exists()
