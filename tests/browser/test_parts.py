"""Parts of the page without an app: forms, values and names."""

import json
import re
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from .page_fixtures import make

TEXT, NUMBER = {"type": "string"}, {"type": "number"}


def record(properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)} | more


def show(page: Page, schema: dict[str, Any], values: dict[str, str] | None = None) -> None:
    """Show a form for these inputs, with values in JSON."""
    script = """({ parse, schemaForm }, schema, values) => {
        window.form = schemaForm(parse(schema), parse(values));
        return form.node;
    }"""
    given = ",".join(f'"{name}":{value}' for name, value in (values or {}).items())
    make(page, script, json.dumps(schema), f"{{{given}}}")


def entered(page: Page) -> dict[str, str]:
    """Return what would be sent, in JSON."""
    told = page.evaluate(
        """async () => {
            const { stringify } = await import("/api.js");
            const all = Object.entries(form.read() ?? {});
            return all.map(([name, value]) => [name, stringify(value)]);
        }"""
    )
    return dict(told)


def refer(name: str) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{name}"}


def level(name: str, deeper: dict[str, Any]) -> dict[str, Any]:
    return record(dict.fromkeys([*map(str, range(12)), name], deeper))


LONG = "x" * 300_000
LEVELS = {f"l{number}": level("last", refer(f"l{number + 1}")) for number in range(7)}
HOSTILE: dict[str, dict[str, Any]] = {
    "references that multiply": LEVELS | {"l7": TEXT},
    "unions in a circle": {"l0": {"anyOf": [refer("l0"), refer("l1")]}, "l1": refer("l0")},
    "long names and defaults": LEVELS | {"l2": level(LONG, TEXT | {"default": LONG})},
    "choices of many": LEVELS | {"l2": {"enum": [*range(20_000)]}},
}


@pytest.mark.parametrize("definitions", HOSTILE.values(), ids=HOSTILE)
def test_form_of_hostile_schema_stays_small_and_usable(
    definitions: dict[str, Any], page: Page
) -> None:
    show(page, record({"first": refer("l0"), "last": TEXT}, **{"$defs": definitions}))
    assert page.locator(".field").count() < 4_000
    assert page.evaluate("document.body.innerHTML.length") < 10_000_000
    last = page.locator(".field").last
    expect(last).to_contain_text("last")
    expect(last.get_by_role("textbox")).to_be_editable()


def test_output_table_distinguishes_null_from_text(page: Page) -> None:
    rows = [{"a": ""}, {"a": "null"}, {"a": None}, {}]
    wide = [{f"column {number}": number for number in range(20_000)}]
    make(page, "({ values }, all) => values(all)", {"table": rows, "none": [{}], "wide": wide})
    expect(page.locator("td")).to_have_text(['""', '"null"', "null", ""])
    expect(page.locator("pre.code").first).to_have_text(re.compile(r"\[\s*\{\}\s*\]"))


def test_only_http_urls_become_links(page: Page) -> None:
    links = ["https://flyte.example.com/v2", None, "javascript:alert(1)", "data:text/html,x", "//"]
    make(page, "({ webLink }, all) => all.map((url) => `${webLink(url)} `)", links)
    assert page.locator("main").inner_text().split() == [links[0], *["null"] * 4]


PEOPLE = [
    ("alice-subject", "Alice Adams", "Alice Adams (alice-subject)"),
    ("mallory-subject", "ALICE Adams", "ALICE Adams (mallory-subject)"),
    ("eve-subject", "Alice (alice-subject)", "Alice (alice-subject) (eve-subject)"),
    ("eva-subject", "Alice\u2028Adams\u202e\u200b", "Alice Adams (eva-subject)"),
    ("invisible-1", "Alice\ufe0f Ad\u034fams", "Alice Adams (invisible-1)"),
    ("invisible-2", "Alice Adams\u3164\u115f\u2800", "Alice Adams (invisible-2)"),
    ("cyrillic", "\u0410l\u0456ce Adams", "\u0410l\u0456ce Adams (cyrillic)"),
    ("capital-i", "AIice Adams", "AIice Adams (capital-i)"),
    ("greek", "\u0391\u039d\u039d\u0391", "\u0391\u039d\u039d\u0391 (greek)"),
    ("bulgarian", "\u0418\u0432\u0430\u043d", "\u0418\u0432\u0430\u043d"),
    ("bob-subject", "", "bob-subject"),
    ("", "", "nobody"),
]


def test_look_alike_user_names_are_shown_with_subject(page: Page) -> None:
    script = "({ person }, all) => all.map(([subject, name]) => person({ subject, name }))"
    make(page, script, PEOPLE)
    page.evaluate("import('/dom.js').then(({ tick }) => tick())")
    expect(page.locator("main > bdi")).to_have_text([told for _, _, told in PEOPLE])


TASK_NAMES = {
    "tasks.greet": "tasks.greet",
    "tasks.gr\u0435et": "tasks.gr\u0435et contains U+0435",
    "tasks.greet\ufe0f": "tasks.greet\ufe0f contains U+FE0F",
    "tasks.gr\u00fc\u00dfe": "tasks.gr\u00fc\u00dfe",
    "\u0430.b_\u0441": "\u0430.b_\u0441 contains U+0430, U+0441",
}


def test_task_names_with_look_alike_letters_are_marked(page: Page) -> None:
    script = "({ taskName, h }, all) => all.map((name) => h('p', taskName(name)))"
    make(page, script, [*TASK_NAMES])
    expect(page.locator("main > p")).to_have_text([*TASK_NAMES.values()])


# Values on their way through a form

KEYS = {"type": "object", "additionalProperties": TEXT}
URI = {"type": ["string", "object"], "format": "uri"}
TIME = TEXT | {"format": "date-time"}
LISTS = {"type": "array", "items": {"type": "array", "items": NUMBER}}
MODEL = record({"old": NUMBER | {"default": 3}, "new": TIME, "raw": TEXT | {"format": "binary"}})
UNTOUCHED = {
    "constructor": (TEXT, '"a\\r\\nb\\rc"'),
    "key": (KEYS, '{"a\\nb":"x\\r\\n","c":"old"}'),
    "__proto__": ({}, '{"a":[1.0,-0.0,1e+16,9007199254740993,{"b":null}]}'),
    "naive": (TIME, '"2026-07-01T12:00:00.123456"'),
    "table": (URI, '{"kind":"dataframe","uri":"s3://b/t","format":"parquet","hash":"x"}'),
    "lists": (LISTS, "[[1],[]]"),
}


def test_form_returns_unedited_values_unchanged(page: Page) -> None:
    """The form omits an input's default, which Flyte records, but sends the default of a field."""
    inputs = {name: schema for name, (schema, _) in UNTOUCHED.items()}
    values = {name: value for name, (_, value) in UNTOUCHED.items()}
    kept = {"kept": NUMBER | {"default": 0.5}, "edited": NUMBER | {"default": 0.5}}
    show(page, record(inputs | kept, required=[*inputs]), values)
    assert entered(page) == values
    page.get_by_label("Value").first.fill("first")
    page.get_by_label("edited").fill("-inf")
    page.get_by_role("group", name="lists").get_by_role("button", name="Remove").last.click()
    sent = values | {"key": '{"a\\nb":"first","c":"old"}', "lists": "[[1]]"}
    assert entered(page) == sent | {"edited": '"-Infinity"'}
    show(page, record({"model": MODEL | {"required": ["new", "raw"]}}))
    page.get_by_label("new").fill("2026-07-02T08:30:05")
    page.get_by_label("in UTC").uncheck()
    page.get_by_label("raw").fill("a b=\n")
    model = {"new": "2026-07-02T08:30:05", "raw": "a b=\n", "old": 3}
    assert json.loads(entered(page)["model"]) == model
    many = {"many": f"[{','.join('7' * 9_000)}]"}
    show(page, record({"many": LISTS["items"]}), many)
    assert entered(page) == many
    assert page.locator("textarea").count() == 1  # of JSON


SECRET = TEXT | {"format": "password", "default": "**********"}
ENUM = {"anyOf": [{"enum": ["A", "B"]}, {"type": ["string", "integer"]}], "default": "B"}
UNION = {"anyOf": [TIME, TEXT | {"format": "date"}], "default": "2024-01-01"}
PLAIN = {"default": 1, "type": "integer"}
UNCLEAR = {"plain": PLAIN, "secret": SECRET, "enum": ENUM, "union": UNION}


def test_form_omits_ambiguous_defaults(page: Page) -> None:
    """Secrets are shown as stars, an enum's name may also be a value, and unions convert values."""
    inner = record(UNCLEAR, required=[], default={"secret": "***", "plain": 2})
    model = record({"n": NUMBER | {"default": 0.5}, **UNCLEAR, "inner": inner}, required=[])
    show(page, record({"model": model}))
    outer = page.get_by_role("group", name="model")
    expect(outer.get_by_label("secret").first).to_be_hidden()
    outer.get_by_label("n number").fill("2")
    assert json.loads(entered(page)["model"]) == {"n": 2.0, "plain": 1}
    outer.get_by_role("group", name="inner").get_by_label("plain").fill("3")
    assert json.loads(entered(page)["model"]) == {"n": 2.0, "plain": 1, "inner": {"plain": 3}}
    toggle = outer.get_by_label("give a value").first
    toggle.check()
    secret = outer.get_by_label("secret").first
    expect(secret).to_have_attribute("type", "password")
    expect(secret).to_have_accessible_description(re.compile("plain text"))
    secret.fill(" typed ")
    assert json.loads(entered(page)["model"])["secret"] == " typed "


def test_union_form_merges_text_types_into_one_option(page: Page) -> None:
    for kinds, told in ([TIME, {"enum": ["RED"], **TEXT}, TEXT], "text"), ([TIME], "date and time"):
        show(page, record({"when": {"anyOf": [*kinds, NUMBER]}}), {"when": "1.0"})
        expect(page.locator("option")).to_have_text([told, "number"])
    show(page, record({"one": {"enum": [1, "1", "2"]}}))
    expect(page.locator("option")).to_have_text(["Choose…", "1", '"1"', "2"])


SENT = {
    ("duration", "p1y1wt1h"): '"P372DT3600S"',
    ("duration", "-60000d 1.5 s"): '"-P60000DT1.5S"',
    ("number", "1"): "1.0",
    ("number", "NaN"): '"NaN"',
    ("integer", "+007"): "7",
    ("integer", "-9007199254740993"): "-9007199254740993",
    ("json", '[1.0, {"a": "b", "b": "a"}, "1e400"]'): '[1.0,{"a":"b","b":"a"},"1e400"]',
}
REFUSED = {
    ("duration", "1 h 30"): "Give w, d, h, min and s",
    ("number", "1e400"): "Give a number, such as 1.5",
    ("number", "0x10"): "Give a number, such as 1.5",
    ("integer", "1.0"): "Give a whole number",
    ("json", "[1e400]"): "1e400 is too large for a number",
    ("json", "[NaN]"): "This is not JSON",
}
SHOWN = {
    ("duration", '"-PT93784.25S"'): "-1 d 2 h 3 min 4.25 s",
    ("duration", '"P60000DT1.5S"'): "60000 d 1.5 s",
    ("date-time", '"2026-07-01T12:00:30.250000+02:00"'): "2026-07-01T10:00:30.25",
    ("date-time", '"2026-07-01T12:00:30"'): "2026-07-01T12:00:30",
}


def fields(page: Page, kinds: list[str], values: dict[str, str] | None = None) -> list[Locator]:
    formats = {kind: TEXT | {"format": kind} for kind in ("duration", "date-time")} | {"json": {}}
    schemas = {f"i{n:02}": formats.get(kind, {"type": kind}) for n, kind in enumerate(kinds)}
    show(page, record(schemas), values)
    return [page.get_by_label(f"{name} ") for name in schemas]


def test_form_values_keep_their_types(page: Page) -> None:
    for field, (_, text) in zip(fields(page, [kind for kind, _ in SENT]), SENT, strict=True):
        field.fill(text)
    assert [*entered(page).values()] == [*SENT.values()]
    given = {f"i{n:02}": value for n, (_, value) in enumerate(SHOWN)}
    for field, shown in zip(
        fields(page, [kind for kind, _ in SHOWN], given), SHOWN.values(), strict=True
    ):
        expect(field).to_have_value(shown)


def test_form_refuses_ambiguous_input_with_reason(page: Page) -> None:
    made = fields(page, [kind for kind, _ in REFUSED])
    for field, (_, text) in zip(made, REFUSED, strict=True):
        field.fill(text)
    assert entered(page) == {}
    for field, why in zip(made, REFUSED.values(), strict=True):
        expect(field).to_have_accessible_description(re.compile(re.escape(why)))
