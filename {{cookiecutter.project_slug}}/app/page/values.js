// Shows inputs and outputs: text, tables, references, and JSON for the rest.
import { stringify } from "./api.js";
import { asText, button, copyButton, h, isNumber, isRecord, name } from "./dom.js";

const LONGEST = 20_000; // characters shown at first
const MAX_ROWS = 100;

/** Show values with their names. */
export function values(all) {
  const entries = Object.entries(all);
  if (!entries.length) return h("p.faint", "None.");
  return h(
    "dl.values",
    entries.map(([key, value]) => h("div", h("dt", name(key)), h("dd", show(value)))),
  );
}

function show(value) {
  if (typeof value === "string") return text(value, "plain-text");
  if (isRecord(value) && typeof value.kind === "string" && ("uri" in value || "size" in value)) {
    return reference(value);
  }
  if (Array.isArray(value) && value.length && value.every(isRecord)) return table(value);
  return text(stringify(value, "  "), "code");
}

function text(whole, kind) {
  if (whole.length < 80 && !whole.includes("\n"))
    return h("span", { class: kind, dir: "auto" }, whole);
  const block = h("pre", { class: kind, dir: "auto", tabindex: 0 }, whole.slice(0, LONGEST));
  const all =
    whole.length > LONGEST &&
    button(`Show all ${whole.length} characters`, () => {
      block.textContent = whole;
      all.remove();
    });
  const copy = copyButton("Copy", () => whole);
  return [block, h("div.actions", all, copy)];
}

function reference({ kind, uri, ...rest }) {
  const facts = Object.entries(rest).map(([key, fact]) => `${key} ${asText(fact)}`);
  return h(
    "div.reference",
    h("strong", name(kind)),
    " ",
    h("span.faint", name(facts.join(", "))),
    uri != null && h("div", h("code", name(asText(uri)))),
  );
}

/** A text that could be taken for nothing or for JSON has quotes. */
function inTable(value) {
  const isPlain = typeof value === "string" && value.trim() && !isJSON(value);
  return isPlain ? value : stringify(value);
}

function isJSON(text) {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

function table(records) {
  const columns = [...new Set(records.flatMap(Object.keys))];
  if (!columns.length || columns.length > MAX_ROWS) return text(stringify(records, "  "), "code");
  const row = (record) =>
    h(
      "tr",
      columns.map((column) => {
        if (!Object.hasOwn(record, column)) return h("td");
        const value = record[column];
        return h("td", { class: isNumber(value) && "number", dir: "auto" }, inTable(value));
      }),
    );
  const body = h("tbody", records.slice(0, MAX_ROWS).map(row));
  const more =
    records.length > MAX_ROWS &&
    button(`Show all ${records.length} rows`, () => {
      body.append(...records.slice(MAX_ROWS).map(row));
      more.remove();
    });
  const heads = columns.map((each) => h("th", { scope: "col" }, name(each)));
  const copy = copyButton("Copy as JSON", () => stringify(records, "  "));
  return [
    h(
      "div.table-scroll",
      { tabindex: 0, role: "region", "aria-label": "Table" },
      h("table", h("thead", h("tr", heads)), body),
    ),
    h("div.actions", more, copy),
  ];
}
