"""docs/recipes in a generated project. test_owner.py pastes them, and runs their tests."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pages
import pytest
from flyte.app.extras import _webhook_app
from template import ROOT

from local_flyte import PEOPLE, LocalFlyte, Mode

from .baking import BIN, PROJECT, run

PROMISES = "tests/test_promises.py"
PAGES = sorted((ROOT / PROJECT / "docs/recipes").glob("*.md"))
PAGES.remove(ROOT / PROJECT / "docs/recipes/many-apps.md")  # test_package.py does what it says


@dataclass(frozen=True)
class Recipe:
    title: str
    files: dict[str, str]
    """The code to paste, by the path in the sentence before it."""

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
            recipe = Recipe(title, dict(blocks))
            assert recipe.tests, f"{title}: no test"
            yield recipe


RECIPES = [recipe for page in PAGES for recipe in recipes_of(page)]


@pytest.mark.weekly  # the SDK may get further ones
def test_every_operation_of_the_sdks_webhook_app_is_in_the_table() -> None:
    named = [name for row in pages.data("webhook")["rows"] for name in row["operations"]]
    assert sorted(named) == sorted(get_args(_webhook_app.WebhookEndpoint))


ON_OPEN_SOURCE = """
import asyncio
import flyte
from flyte import remote

async def main():
    await flyte.init_in_cluster.aio()
    greet = remote.Task.get("my-flyte-app-tests.greet", auto_version="latest")
    run = await flyte.run.aio(greet, name="Ada")
    await run.wait.aio()
    print((await run.outputs.aio())[0])

asyncio.run(main())
"""


@pytest.mark.slow
def test_a_webhook_starts_a_run_on_an_open_source_flyte_as_the_page_says(
    default_project: Path,
) -> None:
    page = (default_project / "docs/recipes/more.md").read_text("utf-8")
    with LocalFlyte(mode=Mode.OPEN_SOURCE) as flyte:
        flyte.deploy(default_project, "tests/deployed_tasks.py", "env")
        environment = flyte.app_environment() | {"TOKEN": PEOPLE["bob"].token}
        (endpoint,) = re.findall('"(dns:[^"]+)"', flyte.config_file().read_text("utf-8"))
        for name, value in {
            "FLYTE_ADMIN_ENDPOINT": endpoint,
            "FLYTE_AUTH_TYPE": "ExternalCommand",
            "FLYTE_AUTH_COMMAND": "printenv TOKEN",
        }.items():
            assert name in page
            environment[name] = value
        assert "Hello, Ada." in run(
            [BIN / "python", "-c", ON_OPEN_SOURCE], default_project, **environment
        )
        assert [*flyte.calls][-1].headers["authorization"] == f"Bearer {PEOPLE['bob'].token}"
