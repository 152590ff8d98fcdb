"""An owner's first week: what is not wanted is deleted, what is wanted is added; nothing breaks.

Each part is deleted together with its test file and the lines that name it, nothing else.
"""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from .baking import Baker, run

pytestmark = pytest.mark.slow

# Quick tests about every part at once.
ABOUT_ALL = ["tests/test_callers.py", "tests/test_headers.py", "tests/test_openapi.py"]
# And those that use several parts.
ABOUT_SEVERAL = [
    f"tests/test_{name}.py"
    for name in (
        "cross_site",
        "disconnects",
        "flyte_client",
        "problems",
        "runs",
        "secrecy",
        "serving",
        "streams",
        "tasks",
    )
]
# All tests run where the most is gone, and without what most of the others watch runs by.
ALL_TESTS = ("the WebSocket", "the streams", "everything but health")


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


def delete(project: Path, *names: str) -> None:
    for name in names:
        path = project / name
        run(["rm", "-r", str(path)], project)


def without_websocket(project: Path) -> None:
    streams = project / "app/routers/streams.py"
    text = streams.read_text("utf-8")
    text = text.replace('websocket_router = APIRouter(tags=["runs"])\n', "")
    text = re.sub(r"@websocket_router.*?(?=^async def _|\Z)", "", text, flags=re.DOTALL | re.M)
    streams.write_text(text, "utf-8")
    cut(project / "app/main.py", "        streams.websocket_router,\n")
    delete(project, "tests/test_websocket.py")


def without_streams(project: Path) -> None:
    delete(project, "app/routers/streams.py", "tests/test_streams.py", "tests/test_websocket.py")
    lines = ("    streams,\n", "        streams.router,\n", "        streams.websocket_router,\n")
    cut(project / "app/main.py", *lines)


def without_page(project: Path) -> None:
    delete(project, "app/page", "tests/test_page.py")


def without_sample_tasks(project: Path) -> None:
    delete(project, "app/tasks.py", "tests/test_sample_tasks.py")
    lines = ("from app.tasks import task_env\n", "    depends_on=[task_env],\n")
    cut(project / "deployment.py", *lines)


def without_router(name: str) -> Callable[[Path], None]:
    def remove(project: Path) -> None:
        delete(project, f"app/routers/{name}.py", f"tests/test_{name}.py")
        cut(project / "app/main.py", f"    {name},\n", f"        {name}.router,\n")

    return remove


def with_only_health(project: Path) -> None:
    """Runs go last: the tasks' answers and the streams' are runs."""
    without_streams(project)
    without_page(project)
    without_sample_tasks(project)
    for name in ("me", "projects", "tasks", "runs"):
        without_router(name)(project)


DELETIONS = {
    "the WebSocket": without_websocket,
    "the streams": without_streams,
    "the page": without_page,
    "the sample tasks": without_sample_tasks,
    "me": without_router("me"),
    "projects": without_router("projects"),
    "tasks": without_router("tasks"),
    "everything but health": with_only_health,
}


def check(project: Path, environment: Path) -> None:
    """Do what ``make format`` and ``make check`` do, in an environment that is there already."""
    tools = environment / "bin"
    run([tools / "ruff", "check", "--fix", "--quiet"], project)
    run([tools / "ruff", "format", "--quiet"], project)
    run([tools / "mypy", f"--cache-dir={environment / 'mypy'}"], project)


@pytest.mark.parametrize("part", DELETIONS)
def test_a_part_goes_with_its_test_file_and_nothing_else(
    part: str, baker: Baker, environment: Path, tmp_path: Path
) -> None:
    project = baker(tmp_path)
    DELETIONS[part](project)
    check(project, environment)
    tests = [name for name in ABOUT_ALL + ABOUT_SEVERAL if (project / name).exists()]
    pytest_command: list[str | Path] = [environment / "bin" / "python", "-m", "pytest", "-q"]
    in_two = ["-n", "2", "--dist", "loadfile"]
    said = run([*pytest_command, *in_two, *(tests if part not in ALL_TESTS else [])], project)
    assert re.search(r"\d{2,} passed", said), said
    # The rest is imported, so a test that cannot do without the part is noticed.
    run([*pytest_command, "--collect-only"], project)


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
