"""Parts of the page without an app: forms for untrusted schemas, and untrusted outputs."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect
from template import ROOT

from ..test_recipes import RECIPES

FILES = ROOT / "{{cookiecutter.project_slug}}" / "app" / "page"
TYPES = {".js": "text/javascript", ".css": "text/css"}
EMPTY = "<!doctype html><link rel=stylesheet href=/style.css><main></main><output></output>"
MOST_ROWS = 4_000
WIDE = [f"p{number}" for number in range(12)]


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """An empty page with the app's files."""
    with browser.new_context() as context:
        context.set_default_timeout(120_000)
        page = context.new_page()

        def serve(route: Route) -> None:
            file = FILES / route.request.url.rpartition("/")[2]
            if file.is_file():
                route.fulfill(path=file, content_type=TYPES[file.suffix])
            else:
                route.fulfill(body=EMPTY, content_type="text/html")

        page.route("**/*", serve)
        page.goto("http://form.example/")
        yield page


def show(page: Page, schema: dict[str, Any], given: dict[str, Any] | None = None) -> None:
    """Make the form and wait for it, with a timeout, which `evaluate` does not have."""
    page.evaluate(
        """([schema, given]) => setTimeout(async () => {
            const { schemaForm } = await import("/form.js");
            window.form = schemaForm(JSON.parse(schema), JSON.parse(given) ?? undefined);
            document.querySelector("main").replaceChildren(form.node);
            document.querySelector("output").value = "made";
        })""",
        [json.dumps(schema), json.dumps(given)],
    )
    expect(page.locator("output")).to_have_text("made")


def record(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def level(name: str, deeper: dict[str, Any]) -> dict[str, Any]:
    return record(dict.fromkeys([*WIDE, name], deeper))


def refer(name: str) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{name}"}


LONG = "x" * 300_000
HOSTILE: dict[str, dict[str, Any]] = {
    "references that multiply": {
        f"l{number}": level("last", refer(f"l{number + 1}")) for number in range(7)
    }
    | {"l7": {"type": "string"}},
    "unions that multiply": {
        f"l{number}": {"anyOf": [level("last", refer(f"l{number + 1}"))]} for number in range(7)
    },
    "unions in a circle": {
        "l0": {"anyOf": [refer("l0"), refer("l1")]},
        "l1": {"anyOf": [refer("l0")]},
    },
    "long names and defaults": {
        "l0": level("last", refer("l1")),
        "l1": level("last", refer("l2")),
        "l2": level(LONG, {"type": "string", "default": LONG}),
    },
    "lists of many": {
        "l0": level("last", refer("l1")),
        "l1": {"type": "array", "items": {"type": "integer"}, "default": [*range(20_000)]},
    },
    "choices of many": {
        "l0": level("last", refer("l1")),
        "l1": level("last", refer("l2")),
        "l2": {"enum": [*range(20_000)]},
    },
}


@pytest.mark.parametrize("definitions", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_schema_makes_a_small_form(definitions: dict[str, Any], page: Page) -> None:
    show(page, {**record({"first": refer("l0"), "last": {"type": "string"}}), "$defs": definitions})
    assert page.locator(".field").count() < MOST_ROWS
    assert len(page.content()) < 10_000_000
    expect(page.get_by_label("last", exact=False).last).to_be_editable()


def test_values_too_complex_for_a_form_can_be_entered_as_json(page: Page) -> None:
    show(
        page,
        record({"many": {"type": "array", "items": {"type": "integer"}}}),
        {"many": [7] * 9_000},
    )
    assert page.evaluate("form.read().many.length") == 9_000
    assert page.locator("textarea").count() == 1


NAMES = ["constructor", "toString", "hasOwnProperty", "__proto__"]


@pytest.mark.parametrize("name", NAMES)
def test_an_input_may_have_the_name_of_an_object_property(name: str, page: Page) -> None:
    schema = record({name: {"type": "integer"}, "other": {"$ref": f"#/$defs/{name}"}})
    show(page, {**schema, "required": [*NAMES, "other"]})
    assert page.locator("main .stack > .field").count() == 2
    field = page.get_by_label(name)
    expect(field).to_have_value("")
    expect(page.locator("label").first).to_contain_text("whole number, required")
    field.fill("3")
    page.get_by_label("other").fill("[]")
    assert page.evaluate("JSON.stringify(form.read())") == f'{{"{name}":3,"other":[]}}'


def test_a_table_has_a_limited_number_of_columns(page: Page) -> None:
    records = [{f"column {number}": number for number in range(20_000)}, *[{} for _ in range(99)]]
    page.evaluate(
        """records => setTimeout(async () => {
            const { values } = await import("/values.js");
            document.querySelector("main").replaceChildren(values({ records }));
            document.querySelector("output").value = "made";
        })""",
        records,
    )
    expect(page.locator("output")).to_have_text("made")
    assert page.locator("td").count() == 0
    expect(page.locator("pre")).to_contain_text('"column 0": 0')


def test_the_second_page_of_the_recipe_has_its_frame_and_shows_who_its_visitor_is(
    page: Page,
) -> None:
    (recipe,) = (each for each in RECIPES if each.title == "A second page")
    answers = {path.removeprefix("app"): text for path, text in recipe.code.items()}
    answers["/me"] = json.dumps({"name": "Ada"})
    types = TYPES | {".html": "text/html", "": "application/json"}
    for path, text in answers.items():
        kind = types[Path(path).suffix]
        page.route(f"**{path}", partial(Route.fulfill, body=text, content_type=kind))
    page.goto("http://form.example/page/about.html")
    expect(page.get_by_role("heading", name="You are Ada")).to_be_visible()
    expect(page.get_by_role("link", name="About you")).to_have_attribute("aria-current", "page")
