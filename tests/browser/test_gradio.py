"""The recipe for Gradio, whose package no generated project has: installed here only."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from local_flyte import LocalFlyte

from ..baking import BIN, Baker, edit, run
from ..served import App, serving_app
from ..test_owner import paste
from ..test_recipes import recipes_of
from .visiting import Visit

pytestmark = pytest.mark.weekly


@pytest.fixture
def app(
    flyte: LocalFlyte, baker: Baker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[App]:
    """A project's app with the recipe, whose own test passes, instead of the one without."""
    project = baker(tmp_path)
    page = project / "docs/recipes/gradio.md"
    for recipe in recipes_of(page):
        paste(recipe, project)
    main = project / "app/main.py"
    edit(main, "from .routers import", "from . import ui\nfrom .routers import")
    edit(main, "    return app", "    ui.mount(app)\n    return app")
    (package,) = re.findall(r'`"(gradio[^"`]+)"`', page.read_text("utf-8"))
    packages = tmp_path / "packages"  # which would be deployed if it were inside
    install = [BIN / "uv", "pip", "install", "--quiet", "--python", BIN / "python", package]
    run([*install, "--compile-bytecode", "--target", packages], project)
    path = f"{project}:{packages}"
    test: list[str | Path] = [BIN / "python", "-m", "pytest", "-q", "tests/test_ui.py"]
    assert "2 passed" in run(test, project, PYTHONPATH=path)
    monkeypatch.setenv("PYTHONPATH", path)
    flyte.register(project)
    with serving_app(project, tmp_path / "log", flyte, PYTHONPATH=path) as app:
        yield app


def test_people_are_not_mixed_up_and_a_failure_is_its_visitors(visit: Visit) -> None:
    pages: dict[str, Page] = {name: visit(name) for name in ("alice", "bob", "victor")}
    for page in pages.values():
        page.goto("/ui/")
    for name, page in pages.items():
        page.get_by_label("Name").fill(name)
    for page in pages.values():  # all at once
        page.get_by_role("button", name="Greet").click()
    for name, family in (("alice", "Adams"), ("bob", "Brown")):
        told = f"Hello, {name}. Run by {name.title()} {family}."
        expect(pages[name].get_by_label("Answer")).to_have_value(told)
    expect(pages["victor"].get_by_text("Error").first).to_be_visible()  # he may run nothing
    expect(pages["victor"].get_by_label("Answer")).to_have_value("")
