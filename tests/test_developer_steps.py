"""Tests of typical changes of developers: additions, recipes and removed features.

All tests are in one file, so in one process, because mypy cannot share a cache between processes.
"""

import filecmp
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pages
import pytest
from template import ROOT

from .baking import BIN, PROJECT, Baker, edit, files_in, run
from .walkthrough import code_blocks

pytestmark = pytest.mark.slow

PYTEST: list[str | Path] = [BIN / "python", "-m", "pytest", "-q"]


def check(project: Path, *, types: bool) -> None:
    """Format and check a changed project with the tools of this environment.

    Types are checked only weekly, because mypy needs most of a minute.
    """
    make = ["make", "-o", ".venv/installed", f"BIN={BIN}"]
    run([*make, "format"], project)
    if types:
        run([*make, "check"], project, MYPY_CACHE_DIR=str(project.parents[1] / "mypy"))
    else:
        run([BIN / "ruff", "check"], project)


TASK = '''

@task_env.task
async def shout(text: str) -> str:
    """Say it louder."""
    return text.upper()
'''


def add_router(project: Path, name: str, code: str) -> None:
    (project / f"app/routers/{name}.py").write_text(code, "utf-8")
    edit(project / "app/main.py", "    me,\n", f"    {name},\n    me,\n")


def add_everything(project: Path) -> None:
    """Add an endpoint, a setting, a task, a folder and a file."""
    router, test = code_blocks(project / "README.md", "Add an endpoint", "python")
    add_router(project, "usage", router)
    (project / "tests/test_usage.py").write_text(test, "utf-8")
    (setting,) = code_blocks(project / "docs/settings.md", "A setting of your own", "python")
    settings = "from passthrough import Cred"
    imports = f"from typing import Annotated\n\nfrom pydantic import Field\n{settings}"
    edit(project / "app/settings.py", settings, imports)
    for name, text in (("tasks", TASK), ("settings", f"\n{setting}")):
        with (project / f"app/{name}.py").open("a", encoding="utf-8") as file:
            file.write(text)
    (project / "data").mkdir()
    (project / "data/words.txt").write_text("one\ntwo\n", "utf-8")
    (project / "words.json").write_text("[]\n", "utf-8")
    paths = '(*page.FILES.paths(), "data/words.txt", "words.json")'
    edit(project / "deployment.py", "page.FILES.paths()", paths)


GUARANTEES = "tests/test_guarantees.py"
PAGES = sorted((ROOT / PROJECT / "docs/recipes").glob("*.md"))
PAGES.remove(ROOT / PROJECT / "docs/recipes/many-apps.md")  # test_package.py tests this page


@dataclass(frozen=True)
class Recipe:
    title: str
    files: dict[str, str]
    """Code to paste, by the path in the sentence before it."""

    @property
    def tests(self) -> list[str]:
        return [path for path in self.files if path.startswith("tests/") and path != GUARANTEES]


def recipes_of(page: Path) -> Iterator[Recipe]:
    for section in page.read_text("utf-8").split("\n## ")[1:]:
        title, _, text = section.partition("\n")
        blocks = re.findall(
            r"^\w[^`]*`([\w./]+\.\w+)`[^\n]*(?:\n[^\n]+)*?:\n\n```\w+\n(.*?)^```$",
            text,
            re.MULTILINE | re.DOTALL,
        )
        assert len(blocks) == len(re.findall("^```$", text, re.MULTILINE)), f"{title}: a lost block"
        if blocks:
            recipe = Recipe(title, dict(blocks))
            assert recipe.tests, f"{title}: no test"
            yield recipe


def paste(recipe: Recipe, project: Path) -> None:
    """Apply a recipe."""
    for path, text in recipe.files.items():
        target = project / path
        if path == "app/tasks.py":
            imports, _, code = text.partition("\n\n\n")
            edit(target, "import flyte\n", f"{imports}\nimport flyte\n")
            with target.open("a", encoding="utf-8") as file:
                file.write("\n\n" + code)
        elif path == "app/main.py":
            (line,) = re.findall("^ +public=.*\n", target.read_text("utf-8"), re.MULTILINE)
            edit(target, line, text)
        elif path.startswith("app/routers/"):
            add_router(project, target.stem, text)
        elif path == GUARANTEES:
            example = '    ("POST", "/tasks/{name}/runs"): '
            edit(target, example, text + example)
        else:
            assert not target.exists(), path
            target.parent.mkdir(exist_ok=True)
            target.write_text(text, "utf-8")


ALLOWED = "tests/test_allowed.py"
"""This test needs a router that callers of other tests may not use."""
OTHER_ANSWERS = {
    "project_slug": "our-app",
    "description": '"hostile" \\n 🚀 <b>',
    "flyte_project": "ours",
    "flyte_domain": "staging",
    "credential_headers": "X-Api-Key",
    "page": "no",
    "agents": "no",
}
OTHER_NAMES = """
def test_unlisted_path_is_refused(alice):
    assert alice.post("/mornings/ada").status_code == 403
"""


def add_all_recipes(project: Path, *without: str) -> list[str]:
    """Apply all recipes except those with these titles; return the test files."""
    pages = [project / f"docs/recipes/{path.name}" for path in PAGES if path.stem != "gradio"]
    recipes = [recipe for page in pages for recipe in recipes_of(page)]
    recipes = [recipe for recipe in recipes if recipe.title not in without]
    for recipe in recipes:
        paste(recipe, project)
    conditions, responses = project / "app/routers/conditions.py", "    responses={202: {"
    for line in ("from ..approvers import APPROVERS", "from ..only import only"):
        edit(conditions, "from passthrough import", f"{line}\nfrom passthrough import")
    edit(conditions, responses, f"    dependencies=[only(*APPROVERS)],\n{responses}")
    example = '{"run": "running", "json": {"value": True}}'
    edit(project / GUARANTEES, example, '{"untested": "only approvers may answer"}')
    return [path for recipe in recipes for path in recipe.tests if path != ALLOWED]


def test_recipes_pass_with_nondefault_template_answers(baker: Baker, tmp_path: Path) -> None:
    """The project has no web UI and no agents; test_readme.py runs all tests with both."""
    project = baker(tmp_path, **OTHER_ANSWERS)
    new = add_all_recipes(project, "Add a second page")
    add_everything(project)
    check(project, types=False)
    some = [*new, "tests/test_usage.py", "tests/test_deployment.py"]
    assert re.search(r"\d{2} passed", run([*PYTEST, *some], project))


@pytest.mark.weekly
def test_project_passes_after_typical_additions(project: Path) -> None:
    """A developer adds every recipe, an endpoint, a task, a setting and a file."""
    add_all_recipes(project, "Replace the web UI by one page")  # this recipe replaces the web UI
    add_everything(project)
    link, docs = '        <a href="page/about.html">About you</a>', '        <a href="docs">'
    assert link.strip() in (project / "docs/recipes/pages.md").read_text("utf-8")
    edit(project / "app/page/index.html", docs, f"{link}\n{docs}")
    check(project, types=True)
    run([*PYTEST, f"--ignore={ALLOWED}"], project)

    main, imports = project / "app/main.py", "from .routers import"
    included = "app.include_router(module.router"
    edit(main, " ProjectDomain,", "")
    edit(main, ", ProjectDomain]", "]")
    edit(main, imports, f"from .allowed import Allowed\n{imports}")
    edit(main, included, f"{included}, dependencies=[Allowed]")
    (project / "tests/test_other_names.py").write_text(OTHER_NAMES, "utf-8")
    run([*PYTEST, ALLOWED, "tests/test_other_names.py"], project)


@pytest.mark.weekly
def test_gradio_recipe_passes_its_test(project: Path, tmp_path: Path) -> None:
    """The test installs Gradio, which no other test needs."""
    page, main = project / "docs/recipes/gradio.md", project / "app/main.py"
    for recipe in recipes_of(page):
        paste(recipe, project)
    edit(main, "from .routers import", "from . import ui\nfrom .routers import")
    edit(main, "    return app", "    ui.mount(app)\n    return app")
    (package,) = re.findall(r'`"(gradio[^"`]+)"`', page.read_text("utf-8"))
    packages = tmp_path / "packages"  # outside the project, so that it is not deployed
    install = [BIN / "uv", "pip", "install", "--quiet", "--python", BIN / "python", package]
    run([*install, "--target", packages], project)
    run([*PYTEST, "tests/test_ui.py"], project, PYTHONPATH=f"{project}:{packages}")


def remove_features(project: Path, *features: str) -> None:
    """Remove features, by default all, as docs/removing-features.md describes."""
    rows = {row["feature"]: row for row in pages.data("removing_features")["rows"]}
    for feature in features or rows:
        run(["rm", "-r", *rows[feature]["delete"]], project)
        for file, text in rows[feature].get("lines", {}).items():
            lines = re.findall(rf".*\b{text}.*\n", (project / file).read_text("utf-8"))
            assert 0 < len(lines) < 4, (feature, lines)
            for line in {*lines}:
                edit(project / file, line, "")
        if feature == "agents":  # the package is still installed, but must not be used
            (project / "mcp.py").write_text('"""Not installed."""\n\nraise ImportError(__name__)\n')


def test_removing_agents_equals_generating_without_agents(
    default_project: Path, project: Path, baker: Baker, tmp_path: Path
) -> None:
    without = baker(tmp_path / "without", agents="no")
    remove_features(project, "agents")
    (project / "mcp.py").unlink()
    assert files_in(without) == files_in(project)
    _, different, _ = filecmp.cmpfiles(without, project, files_in(project), shallow=False)
    assert different == ["docs/removing-features.md", "docs/request.svg"]
    for name in files_in(without):
        assert "agents.md" not in (without / name).read_text("utf-8"), name


@pytest.mark.weekly
@pytest.mark.parametrize(
    "features",
    [("agents", "identity, projects", "tasks"), ("streams, logs", "web UI", "sample tasks"), ()],
)
def test_project_passes_after_removing_features(features: tuple[str, ...], project: Path) -> None:
    remove_features(project, *features)
    check(project, types=bool(features))
    assert re.search(r"\d passed", run(PYTEST, project))


OURS = """from fastapi import APIRouter, HTTPException
from passthrough import CallerDep

router = APIRouter()

@router.get("/absent")
async def absent(_: CallerDep) -> None:
    raise HTTPException(404, "there is none yet")

@router.get("/broken")
async def broken(_: CallerDep) -> int:
    return 1 // 0

@router.get("/hello")
async def hello(_: CallerDep) -> str:
    \"\"\"Greet whoever is known to Flyte.\"\"\"
    return "Hello"

@router.get("/greet")
async def greet() -> str:
    return "Hello"

@router.get("/add")
async def add(a: int, b: int) -> int:
    return a + b
"""
TOLD = [
    "GET /greet accepts any token.*It has not called Flyte. Add the parameter `_: CallerDep`",
    re.escape("GET /add responded with 422 (query.a: Field required; query.b: Field required), so"),
    re.escape("{('GET', '/add'): {'params': {'a': 1, 'b': 1}}}"),
    re.escape("GET /absent responded with 404 (there is none yet), so nothing was tested."),
    r"GET /broken responded with 500 \(.*This is a bug in .* cannot be executed in a test, say why",
    re.escape("{('GET', '/broken'): {'untested': '<reason>'}}"),
]


def test_guarantees_fail_for_endpoint_that_skips_flyte(project: Path) -> None:
    """The failure names the change to make; a removed endpoint is no failure."""
    add_router(project, "ours", OURS)
    features = ("conditions", "identity, projects", "runs, actions", "streams, logs", "tasks")
    remove_features(project, *features)
    some = "invalid_credentials or is_executed or mixed_up or quoted or agents"
    options = ["--tb=short", "--show-capture=no", "-k", some, GUARANTEES, "tests/test_agents.py"]
    with pytest.raises(AssertionError) as failed:
        run([*PYTEST, *options], project)
    output = str(failed.value)
    assert [text for text in TOLD if not re.search(text, output, re.DOTALL)] == []
    assert not re.search("FAILED .*hello", output)
