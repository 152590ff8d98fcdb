"""docs/recipes in a generated project: each recipe works as written, pasted where it says."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pytest
from flyte.app.extras import _webhook_app
from template import ROOT

from .baking import BIN, PROJECT, Baker, run
from .test_owner import ABOUT_ALL, add_everything, add_router, check, cut, put

LONGEST = 30  # lines, without blank ones
PROMISES = "tests/test_promises.py"
OTHER_NAMES = """
def test_a_parameter_of_another_name_is_refused_as_well(alice, greeting):
    assert alice.post(f"/louder/{greeting}").status_code == 403
"""
PAGES = sorted((ROOT / PROJECT / "docs/recipes").glob("*.md"))


@dataclass(frozen=True)
class Recipe:
    title: str
    files: dict[str, str]
    """The code to paste, by the path in the sentence before it."""

    @property
    def code(self) -> dict[str, str]:
        return {path: text for path, text in self.files.items() if not path.startswith("tests/")}

    @property
    def tests(self) -> list[str]:
        return [path for path in self.files if path.startswith("tests/") and path != PROMISES]


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
            yield Recipe(title, dict(blocks))


RECIPES = [recipe for page in PAGES for recipe in recipes_of(page)]
each_recipe = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.title)


@each_recipe
def test_a_recipe_is_short_and_has_a_test(recipe: Recipe) -> None:
    assert recipe.tests
    for path, text in recipe.code.items():
        assert len([*filter(str.strip, text.splitlines())]) <= LONGEST, path


def test_every_operation_of_the_sdks_webhook_app_is_in_the_table() -> None:
    readme = (ROOT / PROJECT / "docs/recipes/README.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| .+ \|$", readme, re.MULTILINE)
    operations = get_args(_webhook_app.WebhookEndpoint)
    assert [name for name, _ in rows] == list(operations)
    environment = _webhook_app.FlyteWebhookAppEnvironment(name="webhook")
    assert environment.app
    paths = environment.app.openapi()["paths"].values()
    assert sum(map(len, paths)) == len(operations) == 18


def test_endpoints_in_the_table_exist(default_project: Path) -> None:
    readme = (default_project / "docs/recipes/README.md").read_text("utf-8")
    routers = "".join(file.read_text() for file in (default_project / "app/routers").glob("*.py"))
    routers += (default_project / "passthrough/requests/public.py").read_text("utf-8")
    for method, path in re.findall(r"`(GET|POST) (/[^`?]+)`", readme):
        assert re.search(rf'@router\.{method.lower()}\(\s*"{re.escape(path)}"', routers), path


def paste(recipe: Recipe, project: Path) -> None:
    """Apply a recipe."""
    for path, text in recipe.files.items():
        target = project / path
        if path == "app/tasks.py":
            imports, _, code = text.partition("\n\n\n")
            put(target, "import flyte\n", imports + "\n")
            with target.open("a", encoding="utf-8") as file:
                file.write("\n\n" + code)
        elif path.startswith("app/routers/"):
            add_router(project, target.stem, text)
        elif path == PROMISES:
            put(target, '    ("POST", "/tasks/{name}/runs"): ', text)
        else:
            assert not target.exists(), path
            target.parent.mkdir(exist_ok=True)
            target.write_text(text, "utf-8")


@pytest.mark.slow
def test_all_tests_pass_after_an_owner_adds_every_recipe_an_endpoint_a_task_a_setting_and_a_file(
    baker: Baker, tmp_path: Path
) -> None:
    project = baker(tmp_path)
    add_everything(project)
    pages = sorted((project / "docs/recipes").glob("*.md"))
    told = "".join(page.read_text("utf-8") for page in pages)
    packages = re.findall(r'`"([^"`]+>=[^"`]+)"`', told)
    assert len(packages) == 3
    for package in packages:
        put(project / "pyproject.toml", '    "starlette', f'    "{package}",\n')
    recipes = [recipe for page in pages for recipe in recipes_of(page)]
    for recipe in recipes:
        paste(recipe, project)
    main = project / "app/main.py"
    put(main, "*public.PATHS, ", '"/payments", ')
    deployment = project / "deployment.py"
    put(deployment, "from app.image", "from app.agent import agent_env\n")
    put(deployment, "task_env],", "agent_env, ")
    put(deployment, '"words.json"),', '"app/texts", ')
    check(project)
    tests = [path for recipe in recipes for path in recipe.tests if path != "tests/test_allowed.py"]
    tests += [*ABOUT_ALL, "tests/test_people.py", "tests/test_deployment.py"]
    pytest_command: list[str | Path] = [BIN / "python", "-m", "pytest", "-q"]
    said = run([*pytest_command, *tests], project)
    assert re.search(r"\d{3} passed", said), said

    cut(main, "from passthrough.dependencies import ProjectDomain\n")
    put(main, "from .routers import", "from .allowed import Allowed\n")
    main.write_text(main.read_text("utf-8").replace("ProjectDomain", "Allowed"), "utf-8")
    (project / "tests/test_other_names.py").write_text(OTHER_NAMES, "utf-8")
    run([*pytest_command, "tests/test_allowed.py", "tests/test_other_names.py"], project)
