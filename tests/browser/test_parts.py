"""Parts of the page without an app: values and forms, and the questions of runs."""

import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect
from template import ROOT

from ..test_recipes import RECIPES
from .visiting import MARKUP, check_harmless, question

FILES = ROOT / "{{cookiecutter.project_slug}}" / "app" / "page"
TYPES = {".js": "text/javascript", ".css": "text/css"}
EMPTY = """<!doctype html><link rel=stylesheet href=/style.css>
<body onsubmit="return false"><main></main><p id=asking><output></output>"""
TEXT, NUMBER, INTEGER = {"type": "string"}, {"type": "number"}, {"type": "integer"}


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    """A page with the app's files, and nothing else on it."""

    def serve(route: Route) -> None:
        file = FILES / route.request.url.rpartition("/")[2]
        if file.is_file():
            route.fulfill(path=file, content_type=TYPES[file.suffix])
        else:
            route.fulfill(body=EMPTY, content_type="text/html")

    errors: list[str] = []
    with browser.new_context() as context:
        context.route("**/*", serve)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto("http://form.example/")
        yield page
    assert errors == []


def make(page: Page, script: str, *given: object) -> None:
    """Show what a function in JavaScript makes of the modules and these values."""
    page.evaluate(  # which has no timeout
        f"""(given) => setTimeout(async () => {{
            document.querySelector("output").value = "";
            const files = ["api", "dom", "form", "questions", "session"];
            const modules = await Promise.all(files.map((file) => import(`/${{file}}.js`)));
            const made = ({script})(Object.assign({{}}, ...modules), ...given);
            document.querySelector("main").replaceChildren(...[made].flat());
            document.querySelector("output").value = "made";
        }})""",
        given,
    )
    expect(page.locator("output")).to_have_text("made")


def record(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def show(
    page: Page, inputs: dict[str, Any], values: dict[str, str] | None = None, **schema: Any
) -> None:
    """Show a form for these inputs, with values in JSON."""
    script = """({ parse, schemaForm }, schema, values) => {
        window.form = schemaForm(parse(schema), parse(values));
        return form.node;
    }"""
    given = ",".join(f'"{name}":{value}' for name, value in (values or {}).items())
    make(page, script, json.dumps(record(inputs) | schema), f"{{{given}}}")


def entered(page: Page) -> dict[str, str]:
    found: dict[str, str] = page.evaluate(
        """async () => {
            const { stringify } = await import("/api.js");
            const all = Object.entries(form.read() ?? {});
            return Object.fromEntries(all.map(([name, value]) => [name, stringify(value)]));
        }"""
    )
    return found


# Schemas and values that are meant to harm


def level(name: str, deeper: dict[str, Any]) -> dict[str, Any]:
    return record(dict.fromkeys([*map(str, range(12)), name], deeper))


def refer(name: str) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{name}"}


LONG = "x" * 300_000
LEVELS = {f"l{number}": level("last", refer(f"l{number + 1}")) for number in range(7)}
HOSTILE: dict[str, dict[str, Any]] = {
    "references that multiply": LEVELS | {"l7": TEXT},
    "unions in a circle": {
        "l0": {"anyOf": [refer("l0"), refer("l1")]},
        "l1": {"anyOf": [refer("l0")]},
    },
    "long names and defaults": LEVELS | {"l2": level(LONG, TEXT | {"default": LONG})},
    "choices of many": LEVELS | {"l2": {"enum": [*range(20_000)]}},
}


@pytest.mark.parametrize("definitions", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_schema_makes_a_small_form(definitions: dict[str, Any], page: Page) -> None:
    show(page, {"first": refer("l0"), "last": TEXT}, **{"$defs": definitions})
    assert page.locator(".field").count() < 4_000
    assert len(page.content()) < 10_000_000
    expect(page.get_by_label("last", exact=False).last).to_be_editable()


def test_values_too_complex_for_a_form_can_be_entered_as_json(page: Page) -> None:
    many = f"[{','.join('7' * 9_000)}]"
    show(page, {"many": {"type": "array", "items": INTEGER}}, {"many": many})
    assert entered(page) == {"many": many}
    assert page.locator("textarea").count() == 1


def test_an_input_may_have_the_name_of_an_object_property(page: Page) -> None:
    inputs = {"constructor": INTEGER, "__proto__": INTEGER, "other": refer("constructor")}
    show(page, inputs, required=[*inputs, "valueOf"])
    assert page.locator("main .stack > .field").count() == len(inputs)
    for name, text in {"constructor": "3", "__proto__": "3", "other": "[]"}.items():
        expect(page.get_by_label(name)).to_have_value("")
        page.get_by_label(name).fill(text)
    sent = page.evaluate("JSON.stringify(form.read())")
    assert json.loads(sent) == {"constructor": 3, "__proto__": 3, "other": []}


def test_what_others_wrote_is_text_and_fits_the_window(page: Page) -> None:
    text = MARKUP + "long" * 1000
    field = TEXT | {"title": text, "description": text, "default": text}
    show(page, {text: field, "either": {"anyOf": [field, INTEGER | {"title": text}]}})
    expect(page.locator("label").first).to_contain_text(text)
    for place in (page.locator(".hint").nth(1), page.get_by_role("option").first):
        expect(place).to_have_text(text)
    check_harmless(page)
    file = {"kind": "file", "uri": "javascript:alert(1)"}
    values = {"text": MARKUP, "table": [{MARKUP: MARKUP}], "file": file}
    make(page, "({ values }, all) => values(all)", values)
    for kind in (".text", "th", "td"):
        expect(page.locator(kind).first).to_have_text(MARKUP)
    expect(page.get_by_role("link")).to_have_count(0)
    check_harmless(page)


def test_a_table_has_a_limited_number_of_columns(page: Page) -> None:
    records = [{f"column {number}": number for number in range(20_000)}, *[{} for _ in range(99)]]
    make(page, "({ values }, records) => values({ records })", records)
    assert page.locator("td").count() == 0
    expect(page.locator("pre")).to_contain_text('"column 0": 0')


def test_only_addresses_of_the_web_are_linked(page: Page) -> None:
    """Such as that of a run in Flyte's console, which Flyte sends."""
    console = "https://flyte.example.com/v2/runs/x"
    addresses = [None, console, "javascript:alert(1)", "data:text/html,x", "//"]
    make(page, "({ webLink }, all) => all.map((url) => `${webLink(url)} `)", addresses)
    assert page.locator("main").inner_text().split() == ["null", console, "null", "null", "null"]


PEOPLE = [
    ("alice-subject", "Alice Adams", "Alice Adams (alice-subject)"),
    ("mallory-subject", "ALICE Adams", "ALICE Adams (mallory-subject)"),
    ("eve-subject", "Alice (alice-subject)", "Alice (alice-subject) (eve-subject)"),
    ("bob-subject", "", "bob-subject"),
    ("", "", "nobody"),
]


def test_a_name_is_told_apart_from_the_same_name_of_somebody_else(page: Page) -> None:
    script = "({ person }, all) => all.map(([subject, name]) => person({ subject, name }))"
    make(page, script, PEOPLE)
    names = page.locator("main > bdi")
    expect(names).to_have_text([told for _, _, told in PEOPLE])  # once the first ones know the last
    assert [name.get_attribute("title") for name in names.all()] == [who for who, *_ in PEOPLE]


def test_the_recipes_second_page_has_its_frame_and_names_its_visitor(page: Page) -> None:
    page = page.context.new_page()
    (recipe,) = (recipe for recipe in RECIPES if recipe.title == "A second page")
    types = TYPES | {".html": "text/html", ".py": "text/plain"}
    for path, text in recipe.files.items():
        kind = types[Path(path).suffix]
        answer = partial(Route.fulfill, body=text, content_type=kind)
        page.route(f"**{path.removeprefix('app')}", answer)
    page.route("**/me", lambda route: route.fulfill(json={"name": "Ada"}))
    page.goto("http://form.example/page/about.html")
    expect(page.get_by_role("heading", name="You are Ada")).to_be_visible()
    expect(page.get_by_role("link", name="About you")).to_have_attribute("aria-current", "page")


# Values on their way through a form


KEYS = {"type": "object", "additionalProperties": TEXT}
URI = {"type": ["string", "object"], "format": "uri"}
UNTOUCHED = {
    "text": (TEXT, '"a\\r\\nb\\rc"'),
    "key": (KEYS, '{"a\\nb":"x\\r\\n","c":""}'),
    "any": ({}, '{"a":[1.0,-0.0,1e+16,9007199254740993,{"b":null}]}'),
    "naive": (TEXT | {"format": "date-time"}, '"2026-07-01T12:00:00.123456"'),
    "table": (URI, '{"kind":"dataframe","uri":"s3://b/t","format":"parquet","hash":"x"}'),
}


def test_what_nobody_has_edited_is_returned_as_it_was_given(page: Page) -> None:
    values = {name: value for name, (_, value) in UNTOUCHED.items()}
    show(page, {name: schema for name, (schema, _) in UNTOUCHED.items()}, values)
    assert entered(page) == values


def test_beside_what_is_edited_the_rest_is_returned_as_it_was_given(page: Page) -> None:
    """But for a default that nobody has edited, which is left to the task."""
    inputs = {name: NUMBER | {"default": 0.5} for name in ("kept", "edited")}
    key = '{"a\\nb":"x\\r\\n","c":"old"}'
    values = {"key": key, "any": '{"a":1.0,"b":2}'}
    show(page, {"key": KEYS, "any": {}, **inputs}, values, required=["key", "any"])
    page.get_by_label("Value").last.fill("new")
    page.get_by_label("any").fill('{"a": 1.0, "b": 3}')
    expect(page.get_by_label("kept")).to_have_value("0.5")
    page.get_by_label("edited").fill("-0")
    sent = {"key": key.replace("old", "new"), "any": '{"a":1.0,"b":3}', "edited": "-0.0"}
    assert entered(page) == sent


def test_beside_a_text_nothing_is_offered_that_would_arrive_as_one(page: Page) -> None:
    when, colour = TEXT | {"format": "date-time"}, {"enum": ["RED"], **TEXT}
    offered = page.get_by_label("Kind of value").locator("option")
    show(page, {"when": {"anyOf": [when, colour, NUMBER, TEXT]}}, {"when": "1.0"})
    expect(offered).to_have_text(["number", "text"])
    show(page, {"when": {"anyOf": [when, NUMBER]}}, {"when": "1.0"})
    expect(offered).to_have_text(["date and time", "number"])


SENT = {
    ("duration", "1 h 30 min"): '"PT5400S"',
    ("duration", "-2d 0.5s"): '"-PT172800.5S"',
    ("duration", "p1wt1h"): '"PT608400S"',
    ("number", "1"): "1.0",
    ("number", "-0.0"): "-0.0",
    ("number", "NaN"): '"NaN"',
    ("integer", "+007"): "7",
    ("integer", "-9007199254740993"): "-9007199254740993",
    ("json", '[1.0, -0.0, 9007199254740993, "1e400"]'): '[1.0,-0.0,9007199254740993,"1e400"]',
}
REFUSED = {
    ("duration", "P1M"): "Give w, d, h, min and s",
    ("duration", "1 h 30"): "Give w, d, h, min and s",
    ("number", "1e400"): "Give a number",
    ("integer", "1.0"): "Give a whole number",
    ("json", "[1e400]"): "1e400 is too large for a number",
    ("json", "[NaN]"): "This is not JSON",
}


def typed(page: Page, cases: dict[tuple[str, str], str]) -> dict[str, str]:
    """Type each text into a field of its kind, and return what is sent."""
    formats = {"duration": TEXT | {"format": "duration"}, "json": {}}
    show(page, {f"i{n:02}": formats.get(k, {"type": k}) for n, (k, _) in enumerate(cases)})
    for number, (_, text) in enumerate(cases):
        page.get_by_label(f"i{number:02} ").fill(text)
    return entered(page)


def test_what_is_typed_is_sent_as_it_is_meant(page: Page) -> None:
    assert [*typed(page, SENT).values()] == [*SENT.values()]


def test_what_has_no_one_meaning_is_refused(page: Page) -> None:
    assert typed(page, REFUSED) == {}
    for number, why in enumerate(REFUSED.values()):
        field = page.get_by_label(f"i{number:02} ")
        expect(field).to_have_accessible_description(re.compile(re.escape(why)))


SHOWN = {
    ("duration", '"PT3600S"'): "1 h",
    ("duration", '"-PT93784.25S"'): "-1 d 2 h 3 min 4.25 s",
    ("duration", '"PT0S"'): "0 s",
    ("date-time", '"2026-07-01T12:00:30.250000+02:00"'): "2026-07-01T10:00:30.25",
    ("date-time", '"2026-07-01T12:00:30"'): "2026-07-01T12:00:30",
}


def test_values_are_shown_as_one_would_write_them(page: Page) -> None:
    inputs = {f"i{n:02}": TEXT | {"format": kind} for n, (kind, _) in enumerate(SHOWN)}
    show(page, inputs, {f"i{n:02}": value for n, (_, value) in enumerate(SHOWN)})
    for number, shown in enumerate(SHOWN.values()):
        expect(page.get_by_label(f"i{number:02} ")).to_have_value(shown)
    naive = page.get_by_label("i04 ")
    expect(naive).to_have_accessible_description("Without a time zone.")
    naive.fill("2026-07-02T08:30:05")
    page.get_by_label("i03 ").fill("2026-07-02T08:30:05")
    sent = entered(page)
    assert (sent["i03"], sent["i04"]) == ('"2026-07-02T08:30:05.000Z"', '"2026-07-02T08:30:05"')


# Questions of runs


def ask(page: Page, *conditions: dict[str, Any]) -> Locator:
    script = """({ questionsPanel }, conditions) => {
        window.panel = questionsPanel("Questions", {});
        panel.draw(conditions);
        return panel.node;
    }"""
    make(page, script, conditions)
    return page.locator(".question")


def test_questions_are_in_order_and_answers_are_what_they_are(page: Page) -> None:
    """Times of different precisions: as text, the second one would come after the first."""
    told: dict[object, str] = {"constructor": "“constructor”", "true": "“true”"}
    told |= {True: "Yes", False: "No", 2: "2"}
    answers = [
        question(str(number), value=value, asked_at=f"2026-01-31T09:30:0{number}Z")
        for number, value in enumerate(told)
    ]
    newest = question("newest", asked_at="2026-01-31T09:30:08.847Z")
    asked = ask(page, *answers, newest, question("older", asked_at="2026-01-31T09:30:08Z"))
    expect(asked.locator(".told")).to_have_text(["newest", "older", "4", "3", "2", "1", "0"])
    words = [f"Somebody answered: {value}" for value in reversed(told.values())]
    expect(asked.locator(".text")).to_have_text(words)


def test_an_answer_that_is_refused_is_told_and_can_be_sent_again(page: Page) -> None:
    wanted = {"name": "How many?", "type": "number"}
    asked = ask(page, question(**wanted))
    send = asked.get_by_role("button", name="Send the answer")
    asked.get_by_label("Answer").fill("x")
    send.click()
    expect(asked.get_by_label("Answer")).to_have_accessible_description(re.compile("Give a number"))
    asked.get_by_label("Answer").fill("2")
    conflict = {"title": "Conflict", "status": 409}  # somebody else has answered
    page.route("**/conditions/*", lambda route: route.fulfill(status=409, json=conflict))
    send.press("Enter")
    expect(asked.get_by_role("alert")).to_contain_text(re.compile("That can.t be done"))
    expect(send).to_be_focused()
    made = question(**wanted, value=2.0, answered_by={"subject": "dan-subject", "name": "Dan"})
    page.route("**/runs/r/conditions/*", lambda route: route.fulfill(json=made))
    with page.expect_request("**/conditions/*") as sent:
        send.click()
    assert sent.value.post_data == '{"value":2.0}'
    expect(asked).to_contain_text("Dan answered: 2.0")
    page.unroute_all()


def test_a_question_that_was_cut_off_has_no_buttons_until_all_of_it_is_shown(page: Page) -> None:
    whole = question("a1", prompt="really " * 3000 + "not?")
    page.route("**/runs/r/conditions?*", lambda route: route.fulfill(json=[whole]))
    asked = ask(page, whole | {"prompt": "really … (cut off)", "prompt_is_cut": True})
    expect(asked.get_by_role("button")).to_have_text(["Show the whole question"])
    asked.get_by_role("button").click()
    expect(asked.get_by_role("button")).to_have_text(["Yes", "No"])
    expect(asked.locator(".told")).to_have_text(whole["prompt"])
    expect(asked.locator(".told")).to_be_focused()
    page.unroute_all()


def test_a_question_that_cannot_be_answered_has_no_controls(page: Page) -> None:
    asked = ask(page, question("a1", type=None))
    expect(asked).to_contain_text("Its type is unknown here")
    expect(asked.get_by_role("button")).to_have_count(0)
    asked = ask(page, question("a1"))
    asked.get_by_role("button", name="Yes").focus()
    page.evaluate("condition => panel.draw([condition])", question("a1", phase="aborted"))
    expect(asked).to_contain_text("Aborted without an answer")
    expect(asked.get_by_role("button")).to_have_count(0)
    assert page.evaluate("document.activeElement.role") == "status"  # where it is told
