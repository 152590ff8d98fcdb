"""An owner's first week: nothing breaks after additions."""

import re
from pathlib import Path

import pytest

from .baking import Baker, run
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


def check(project: Path, environment: Path) -> None:
    """Do what ``make format`` and ``make check`` do, in an existing environment."""
    tools = environment / "bin"
    run([tools / "ruff", "check", "--fix", "--quiet"], project)
    run([tools / "ruff", "format", "--quiet"], project)
    run([tools / "mypy", f"--cache-dir={environment / 'mypy'}"], project)


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


"""
GREETS = """@router.get("/hello")
async def hello(_: CallerDep) -> str:
    \"\"\"Greet whoever is known to Flyte.\"\"\"
    return "Hello"


"""
ASKS_NOTHING = {
    "GET /hello accepts any token. If it": """@router.get("/hello")
async def hello() -> str:
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
    baker: Baker, environment: Path, tmp_path: Path
) -> None:
    project = baker(tmp_path)
    me = project / "app/routers/me.py"
    as_generated = me.read_text("utf-8")
    put(me, '@router.get("/me"', ABSENT + "".join(f"{each}\n\n" for each in ASKS_NOTHING.values()))
    command: list[str | Path] = [
        environment / "bin" / "python",
        "-m",
        "pytest",
        "-q",
        "--tb=line",
        "-k",
        "invalid_credentials",
    ]
    with pytest.raises(AssertionError) as failed:
        run([*command, *ABOUT_ALL], project)
    told = str(failed.value)
    for said in ASKS_NOTHING:
        assert re.search(rf"{said}.* give it the parameter `_: CallerDep`", told, re.DOTALL)
    me.write_text(as_generated, "utf-8")
    put(me, '@router.get("/me"', GREETS)
    run([environment / "bin" / "ruff", "check"], project)
    put(me, '@router.get("/me"', ABSENT)
    with pytest.raises(AssertionError) as failed:
        run([*command[:-1], "invalid_credentials and hello or mixed_up", *ABOUT_ALL], project)
    assert "1 failed, 1 passed" in str(failed.value)
    assert "such as {('GET', '/absent'): {'status': 404}}" in str(failed.value)


def test_make_check_and_make_format_report_everything(
    baker: Baker, environment: Path, tmp_path: Path
) -> None:
    project = baker(tmp_path)
    (project / "app/ugly.py").write_text('"""Ugly."""\n\nX : int="one"\ndef f():\n    return Y\n')
    (project / "tests/ugly.py").write_text("from flyteidl2.core import literals_pb2\n")
    (project / ".venv").symlink_to(environment)
    (environment / "installed").touch()
    with pytest.raises(AssertionError) as failed:
        run(["make", "check"], project)
    for finding in (
        "would be reformatted",
        "Undefined name `Y`",
        "`flyteidl2` is banned: use flyte.remote and flyte.run",
        "app/ugly.py:3: error:",
    ):
        assert finding in str(failed.value)
    said = run(["make", "format"], project)
    assert "Undefined name `Y`" in said
    assert '\nX: int = "one"\n' in (project / "app/ugly.py").read_text()
