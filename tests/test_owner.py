"""An owner's first week: what is wanted is added, and nothing breaks."""

import re
from pathlib import Path

import pytest

from .baking import Baker, run

pytestmark = pytest.mark.slow

# Quick tests about every part at once.
ABOUT_ALL = ["tests/test_callers.py", "tests/test_headers.py", "tests/test_openapi.py"]


def cut(file: Path, *texts: str) -> None:
    """Take texts out of a file."""
    content = file.read_text("utf-8")
    for text in texts:
        assert text in content, f"{file.name} has no {text!r}"
        content = content.replace(text, "")
    file.write_text(content, "utf-8")


def put(file: Path, before: str, text: str) -> None:
    """Put a text into a file, before another."""
    content = file.read_text("utf-8")
    assert content.count(before) == 1, f"{file.name} has {before!r} {content.count(before)} times"
    file.write_text(content.replace(before, text + before), "utf-8")


def check(project: Path, environment: Path) -> None:
    """Do what ``make format`` and ``make check`` do, in an environment that is there already."""
    tools = environment / "bin"
    run([tools / "ruff", "check", "--fix", "--quiet"], project)
    run([tools / "ruff", "format", "--quiet"], project)
    run([tools / "mypy", f"--cache-dir={environment / 'mypy'}"], project)


ENDPOINT = '''"""Greetings, without a task."""

from fastapi import APIRouter

from ..dependencies import CallerDep, SettingsDep

router = APIRouter(tags=["hello"])


@router.get("/hello/{number}")
async def hello(caller: CallerDep, settings: SettingsDep, number: int) -> str:
    """Greet the caller."""
    return f"{settings.greeting}, {caller.name}, for the {number}th time"
'''
TASK = '''

@task_env.task
async def shout(text: str) -> str:
    """Say it louder."""
    return text.upper()
'''
SETTING = '''    greeting: str = _env("GREETING", default="Hello")
    """How people are greeted."""

'''


def add_everything(project: Path) -> None:
    (project / "app/routers/hello.py").write_text(ENDPOINT, "utf-8")
    main = project / "app/main.py"
    put(main, "    health,\n", "    hello,\n")
    put(main, "        health.router,\n", "        hello.router,\n")
    with (project / "app/tasks.py").open("a", encoding="utf-8") as tasks:
        tasks.write(TASK)
    put(project / "app/settings.py", "    flyte_org: ", SETTING)
    (project / "data").mkdir()
    (project / "data/words.txt").write_text("one\ntwo\n", "utf-8")
    (project / "words.json").write_text("[]\n", "utf-8")
    deployment = project / "deployment.py"
    cut(deployment, "    include=tuple(map(str, page.FILES)),\n")
    include = '    include=(*map(str, page.FILES), "data/words.txt", "words.json"),\n'
    put(deployment, "    resources=", include)


def test_an_endpoint_a_task_a_setting_and_a_file_are_added_and_all_tests_pass(
    baker: Baker, environment: Path, tmp_path: Path
) -> None:
    project = baker(tmp_path)
    add_everything(project)
    check(project, environment)
    tests = [
        *ABOUT_ALL,
        "tests/test_deployment.py",
        "tests/test_sample_tasks.py",
        "tests/test_page.py",
    ]
    said = run([environment / "bin" / "python", "-m", "pytest", "-q", *tests], project)
    assert re.search(r"\d{2,} passed", said), said


ASKS_NOTHING = {
    "GET /hello serves": """@router.get("/hello")
async def hello() -> str:
    return "Hello"
""",
    "GET /add has not asked Flyte": """@router.get("/add")
async def add(a: int, b: int) -> int:
    return a + b
""",
    "POST /echo has not asked Flyte": """@router.post("/echo")
async def echo(body: list[str]) -> list[str]:
    return body
""",
}


def test_an_endpoint_that_asks_flyte_nothing_is_told_what_to_change(
    baker: Baker, environment: Path, tmp_path: Path
) -> None:
    project = baker(tmp_path)
    code = "".join(f"{each}\n\n" for each in ASKS_NOTHING.values())
    put(project / "app/routers/me.py", '@router.get("/me"', code)
    command: list[str | Path] = [
        environment / "bin" / "python",
        "-m",
        "pytest",
        "-q",
        "--tb=line",
        "-k",
        "expired",
    ]
    with pytest.raises(AssertionError) as failed:
        run([*command, "tests/test_callers.py"], project)
    for said in ASKS_NOTHING:
        assert re.search(rf"{said} .* give it a CallerDep parameter", str(failed.value), re.DOTALL)


def test_make_check_and_make_format_report_everything(
    baker: Baker, environment: Path, tmp_path: Path
) -> None:
    project = baker(tmp_path)
    (project / "app/ugly.py").write_text('"""Ugly."""\n\nX : int="one"\ndef f():\n    return Y\n')
    (project / ".venv").symlink_to(environment)
    (environment / "installed").touch()
    with pytest.raises(AssertionError) as failed:
        run(["make", "check"], project)
    for finding in ("would be reformatted", "Undefined name `Y`", "app/ugly.py:3: error:"):
        assert finding in str(failed.value)
    said = run(["make", "format"], project)
    assert "Undefined name `Y`" in said
    assert '\nX: int = "one"\n' in (project / "app/ugly.py").read_text()
