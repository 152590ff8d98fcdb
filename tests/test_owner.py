"""An owner's first week: nothing breaks after additions."""

import re
from pathlib import Path

import pytest

from .baking import BIN, Baker, run
from .walkthrough import code_blocks

pytestmark = pytest.mark.slow

# These tests cover every endpoint at once.
ABOUT_ALL = ["tests/test_promises.py"]


def cut(file: Path, *texts: str) -> None:
    """Remove texts from a file."""
    content = file.read_text("utf-8")
    for text in texts:
        assert text in content, f"{file.name} has no {text!r}"
        content = content.replace(text, "")
    file.write_text(content, "utf-8")


def put(file: Path, before: str, text: str) -> None:
    """Insert a text into a file, before another."""
    content = file.read_text("utf-8")
    assert content.count(before) == 1, f"{file.name} has {before!r} {content.count(before)} times"
    file.write_text(content.replace(before, text + before), "utf-8")


def make(target: str, project: Path) -> str:
    """Run a target of the project's Makefile in this environment; return what it prints."""
    cache = project.parents[1] / "mypy"  # of these tests in this process: mypy can't share it
    command = ["make", "-o", ".venv/installed", f"BIN={BIN}", target]
    return run(command, project, MYPY_CACHE_DIR=str(cache))


def check(project: Path) -> None:
    """Format and check what an owner has written."""
    make("format", project)
    make("check", project)


TASK = '''

@task_env.task
async def shout(text: str) -> str:
    """Say it louder."""
    return text.upper()
'''
SETTING = '''
    greeting: str = env("GREETING", default="Hello")
    """How people are greeted."""
'''


def add_router(project: Path, name: str, code: str) -> None:
    (project / f"app/routers/{name}.py").write_text(code, "utf-8")
    put(project / "app/main.py", '    "me",\n', f'    "{name}",\n')


def add_everything(project: Path) -> None:
    router, test = code_blocks(project / "README.md", "Add an endpoint", "python")
    add_router(project, "people", router)
    (project / "tests/test_people.py").write_text(test, "utf-8")
    for name, text in (("tasks", TASK), ("settings", SETTING)):
        with (project / f"app/{name}.py").open("a", encoding="utf-8") as file:
            file.write(text)
    (project / "data").mkdir()
    (project / "data/words.txt").write_text("one\ntwo\n", "utf-8")
    (project / "words.json").write_text("[]\n", "utf-8")
    deployment = project / "deployment.py"
    cut(deployment, "    include=tuple(map(str, page.FILES)),\n")
    include = '    include=(*map(str, page.FILES), "data/words.txt", "words.json"),\n'
    put(deployment, "    resources=", include)


ABSENT = """from fastapi import HTTPException
from flyte import remote

@router.get("/absent")
async def absent(_: CallerDep) -> None:
    raise HTTPException(404, "there is none yet")

@router.get("/hello")
async def hello(_: CallerDep) -> str:
    \"\"\"Greet whoever is known to Flyte.\"\"\"
    return "Hello"


"""
ASKS_NOTHING = {
    "GET /greet accepts any token. If it": """@router.get("/greet")
async def greet() -> str:
    return "Hello"
""",
    "GET /careless accepts any token. If it calls Flyte,": """@router.get("/careless")
async def careless() -> str:
    try:
        return (await remote.User.get.aio()).subject()
    except Exception:
        return "nobody"
""",
    "GET /add refused its parameters": """@router.get("/add")
async def add(a: int, b: int) -> int:
    return a + b
""",
    "POST /echo refused its parameters": """@router.post("/echo")
async def echo(body: list[str]) -> list[str]:
    return body
""",
}


def test_an_endpoint_that_does_not_call_flyte_fails_with_what_to_change(
    baker: Baker, tmp_path: Path
) -> None:
    project = baker(tmp_path)
    ours = ABSENT + "".join(f"{each}\n\n" for each in ASKS_NOTHING.values())
    put(project / "app/routers/me.py", '@router.get("/me"', ours)
    some = ["-q", "--tb=line", "-k", "invalid_credentials or mixed_up"]
    with pytest.raises(AssertionError) as failed:
        run([BIN / "python", "-m", "pytest", *some, *ABOUT_ALL], project)
    told = str(failed.value)
    for said in ASKS_NOTHING:
        assert re.search(rf"{said}.* give it the parameter `_: CallerDep`", told, re.DOTALL)
    assert "such as {('GET', '/absent'): {'status': 404}}" in told
    assert not re.search("FAILED .*hello", told)


def test_make_check_and_make_format_report_everything(baker: Baker, tmp_path: Path) -> None:
    project = baker(tmp_path)
    (project / "app/ugly.py").write_text('"""Ugly."""\n\nX : int="one"\ndef f():\n    return Y\n')
    (project / "tests/ugly.py").write_text("from flyteidl2.core import literals_pb2\n")
    with pytest.raises(AssertionError) as failed:
        make("check", project)
    for finding in (
        "would be reformatted",
        "Undefined name `Y`",
        "`flyteidl2` is banned: use flyte.remote and flyte.run",
        "app/ugly.py:3: error:",
    ):
        assert finding in str(failed.value)
    assert "Undefined name `Y`" in make("format", project)
    assert '\nX: int = "one"\n' in (project / "app/ugly.py").read_text()
