// Creates elements without parsing markup: text always stays text. Shows values.
import { stringify } from "./api.js";

/**
 * Make an element; `kind` is its tag and classes: "p.hint". Its attributes come first, if it has
 * any: functions among them listen to events, and "--names" are properties for the style sheet.
 */
export function h(kind, ...parts) {
  const [tag, ...classes] = kind.split(".");
  const element = document.createElement(tag);
  element.className = classes.join(" ");
  const attributes = parts[0]?.constructor === Object ? parts.shift() : {};
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(key, value);
    else if (key.startsWith("--"))
      element.style.setProperty(key, value); // the policy forbids style attributes
    else if (value !== false && value != null)
      element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...parts.flat(Infinity).filter((part) => part != null && part !== false));
  return element;
}

/** Make a button that does not submit a form. */
export const button = (label, click, properties = {}) =>
  h("button", { type: "button", click, ...properties }, label);

/** Make a section of a view, with a title. */
export function card(title, ...parts) {
  const id = newId();
  return h("section.card", { "aria-labelledby": id }, h("h2", { id }, title), parts);
}

export const asText = (value) => (typeof value === "string" ? value : stringify(value));
export const isNumber = (value) => typeof value === "number" || value instanceof Number;
export const isRecord = (value) =>
  value !== null && typeof value === "object" && !Array.isArray(value) && !isNumber(value);

let ids = 0;
export const newId = () => `i${++ids}`;

/** A name from a user, isolated so that its direction does not affect the text around it. */
export const name = (text, properties) => h("bdi", properties, text);

/** A task's name, with its prefix in small print. */
export function taskName(full) {
  const dot = full.lastIndexOf(".");
  const own = dot < 1 ? full : full.slice(dot + 1);
  const prefix = dot < 1 ? [] : [name(full.slice(0, dot + 1), { class: "prefix" }), h("wbr")];
  return [...prefix, name(own)];
}

const ENDED = ["succeeded", "failed", "aborted", "timed_out", "recovered"];
export const hasEnded = (run) => ENDED.includes(run.phase);
export const phaseWord = (phase) =>
  (phase ?? "unknown").replaceAll("_", " ").replace(/^./, (first) => first.toUpperCase());
export const phaseBadge = (phase) => h("span", { class: `phase ${phase}` }, phaseWord(phase));

/** @type {[string, number][]} of time, in seconds */
export const UNITS = [
  ["d", 86400],
  ["h", 3600],
  ["min", 60],
  ["s", 1],
];

/** A length of time in its largest units. */
export function duration(milliseconds, units = 2) {
  let rest = Math.max(0, milliseconds) / 1000;
  if (rest < 10 && units > 1) return `${rest.toFixed(1)} s`;
  const parts = UNITS.map(([unit, size]) => {
    const amount = Math.floor(rest / size);
    rest -= amount * size;
    return amount && `${amount} ${unit}`;
  });
  return parts.filter(Boolean).slice(0, units).join(" ") || "0 s";
}

const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const DAY = 86_400_000;

/** The time of an event: how long ago, kept up to date, or after a day the time. */
export function when(iso) {
  const at = Date.parse(iso);
  const element = h("time", { datetime: iso, title: exact.format(at) });
  if (Date.now() - at > DAY) element.append(exact.format(at));
  else live(element, () => `${duration(Date.now() - at, 1)} ago`);
  return element;
}

/** A run's duration, kept up to date until it has ended. */
export function runDuration({ phase, started_at: start, ended_at: end }) {
  const since = (until) => duration(until - Date.parse(start));
  if (!start) return "–";
  if (hasEnded({ phase })) return end ? since(Date.parse(end)) : "–";
  return live(h("span"), () => since(Date.now()));
}

const ticking = new Map(); // elements whose text changes with time, and functions that return it

/** Keep an element's text up to date. */
export function live(element, text) {
  element.textContent = text();
  ticking.set(element, text);
  return element;
}

/** Write all of them anew. */
export function tick() {
  for (const [element, text] of ticking) {
    const now = text();
    if (!element.isConnected) ticking.delete(element);
    else if (element.textContent !== now) element.textContent = now;
  }
}
setInterval(tick, 1000);

/** The URL, if it is safe to link to. */
export function webLink(address, base) {
  const url = address && URL.parse(address, base);
  return ["http:", "https:"].includes(url?.protocol) ? url.href : null;
}

export function copyButton(label, text) {
  const copy = button(label, async () => {
    const done = await navigator.clipboard?.writeText(text()).then(
      () => "Copied",
      () => null,
    );
    copy.textContent = done ?? "Your browser does not allow it";
    setTimeout(() => copy.replaceChildren(label), 2000);
  });
  return copy;
}

// Inputs and outputs: text, tables, references, and JSON for the rest.
const LONGEST = 20_000; // characters shown at first
const MOST_ROWS = 100;

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
  if (typeof value === "string") return text(value, "text");
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
  return [
    block,
    h(
      "div.actions",
      all,
      copyButton("Copy", () => whole),
    ),
  ];
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
  if (!columns.length || columns.length > MOST_ROWS) return text(stringify(records, "  "), "code");
  const row = (record) =>
    h(
      "tr",
      columns.map((column) => {
        if (!Object.hasOwn(record, column)) return h("td");
        const value = record[column];
        return h("td", { class: isNumber(value) && "numbers", dir: "auto" }, inTable(value));
      }),
    );
  const body = h("tbody", records.slice(0, MOST_ROWS).map(row));
  const more =
    records.length > MOST_ROWS &&
    button(`Show all ${records.length} rows`, () => {
      body.append(...records.slice(MOST_ROWS).map(row));
      more.remove();
    });
  const head = h(
    "tr",
    columns.map((each) => h("th", { scope: "col" }, name(each))),
  );
  return [
    h(
      "div.scroll",
      { tabindex: 0, role: "region", "aria-label": "Table" },
      h("table", h("thead", head), body),
    ),
    h(
      "div.actions",
      more,
      copyButton("Copy as JSON", () => stringify(records, "  ")),
    ),
  ];
}
