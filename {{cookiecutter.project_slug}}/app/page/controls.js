// The controls of a form for single values: each makes an element, and reads it.
import { parse, stringify, written } from "./api.js";
import { asText, h, isNumber } from "./dom.js";
import { UNITS } from "./phases.js";

export const LEFT_OUT = Symbol("left out");
const ZONE = /(Z|[+-]\d\d:?\d\d)$/i; // of an ISO 8601 time
const NUMBERS = ["NaN", "Infinity", "-Infinity"]; // not numbers in JSON
const DECIMAL = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;
const SPELLINGS = { nan: "NaN", inf: "Infinity", infinity: "Infinity" }; // Python's, too

export class Invalid extends Error {}

export const same = (one, other) => stringify(one) === stringify(other);
export const own = (record = {}, key) => (Object.hasOwn(record, key) ? record[key] : undefined);

function required(text, from = (same) => same) {
  if (!text) throw new Invalid("A value is required");
  return from(text);
}

/**
 * A text for a value, in one line or, with `tag`, in an area.
 * @param { {id: string, value: any}} at
 * @param { {tag?: string, shown?: (value: any) => string, from?: (text: string) => any,
 *   hint?: string, [attribute: string]: any}} [options]
 */
function line({ id, value }, { tag = "input", shown = String, from, hint, ...attributes } = {}) {
  const kind = tag === "input" ? { type: "text" } : { rows: 1, class: "code" };
  const node = h(tag, { id, autocomplete: "off", spellcheck: "false", ...kind, ...attributes });
  node.value = value === undefined ? "" : shown(value);
  return { node, hint, read: () => required(node.value.trim(), from) };
}

/** A text, which may be empty, but hardly ever on purpose. */
function string({ id, value }) {
  const node = h("textarea", { id, rows: 1, autocomplete: "off", dir: "auto" });
  node.value = value ?? "";
  let warned = value !== undefined;
  const read = () => {
    if (node.value || warned) return node.value;
    warned = true;
    throw new Invalid("This text is empty. To give an empty text, send the form once more.");
  };
  return { node, read };
}

function integer(text) {
  if (!/^[+-]?\d+$/.test(text)) throw new Invalid("Give a whole number, such as 42");
  return written(BigInt(text.replace("+", "")).toString());
}

/** Make a number that is no integer, as JSON tells them apart: 1 becomes 1.0. */
function number(text) {
  const [, sign, word] = /^([+-]?)([a-z]+)$/i.exec(text) ?? [];
  const spelling = own(SPELLINGS, word?.toLowerCase());
  if (spelling) return sign === "-" && spelling !== "NaN" ? `-${spelling}` : spelling;
  const value = DECIMAL.test(text) ? Number(text) : Number.NaN; // not 0x10, for example
  if (!Number.isFinite(value)) throw new Invalid("Give a number, such as 1.5");
  const short = Object.is(value, -0) ? "-0" : String(value);
  return written(/^-?\d+$/.test(short) ? `${short}.0` : short);
}

const ISO_DAYS = /^(-?)P(?=\d|T\d)(?:(\d+)Y)?(?:(\d+)W)?(?:(\d+)D)?/;
const ISO_TIME = /(?:T(?=\d)(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)(\.\d{1,6})?S)?)?$/;
const ISO = new RegExp(ISO_DAYS.source + ISO_TIME.source);
const DAYS = /^(-?)\s*(?=\d)(?:(\d+)\s*y)?\s*(?:(\d+)\s*w)?\s*(?:(\d+)\s*d)?\s*/;
const TIME = /(?:(\d+)\s*h)?\s*(?:(\d+)\s*min)?\s*(?:(\d+)(\.\d{1,6})?\s*s)?$/;
const WORDS = new RegExp(DAYS.source + TIME.source, "i");
const SECONDS = [31_536_000, 604_800, 86_400, 3600, 60, 1]; // of the units above; Pydantic's years

/**
 * Write "1 h 30 min" or an ISO 8601 duration, without months, as ISO 8601 or in
 * words.
 */
function duration(text, inWords) {
  const [, sign, ...parts] = ISO.exec(text.toUpperCase()) ?? WORDS.exec(text) ?? [];
  if (!parts.length) throw new Invalid("Give w, d, h, min and s, such as 1 h 30 min, or PT1H30M");
  const fraction = parts[6] ?? "";
  let rest = SECONDS.reduce((sum, size, index) => sum + size * Number(parts[index] ?? 0), 0);
  // Pydantic reads up to 2**32 seconds, so days are written apart.
  if (!inWords) return `${sign}P${Math.floor(rest / 86_400)}DT${rest % 86_400}${fraction}S`;
  const words = UNITS.map(([unit, size]) => {
    const amount = Math.floor(rest / size) + (size === 1 ? fraction : "");
    rest %= size;
    return Number(amount) && `${amount} ${unit}`;
  });
  return sign + (words.filter(Boolean).join(" ") || "0 s");
}

/** A time in UTC. Fields of a model may want one without a time zone: it is nobody's local time. */
function dateTime(at) {
  const naive = Boolean(at.value) && !ZONE.test(at.value);
  const zone = h("input", { type: "checkbox", checked: !naive });
  const given = line(at, {
    type: "datetime-local",
    step: 1,
    shown: (iso) => (naive ? iso : new Date(iso).toISOString()).slice(0, 23).replace(/\.0+$/, ""),
    from(text) {
      const date = new Date(`${text}Z`);
      if (Number.isNaN(Number(date)))
        throw new Invalid("Give a date and a time, with a year of four digits");
      return zone.checked ? date.toISOString() : text;
    },
  });
  if (at.depth < 2 && !naive) return { ...given, hint: "In UTC." };
  const toggle = h("label.toggle", zone, "in UTC (else without a time zone)");
  const node = h("div.stack", given.node, toggle);
  return { ...given, node, target: given.node };
}

/** A secret, as far as a browser can keep one. */
function secret({ id, value = "" }) {
  const node = h("input", { id, type: "password", autocomplete: "new-password" });
  node.value = value;
  const hint = "Hidden only here: Flyte stores it as plain text with the run.";
  return { node, hint, read: () => required(node.value) };
}

const uri = (at, options = {}) =>
  line(
    { ...at, value: at.value?.uri ?? at.value },
    { hint: "Such as s3://bucket/path.", ...options },
  );

/** A file of the user's machine, which is uploaded, or the URI of one. */
function file(at) {
  if (!at.upload) return uri(at);
  const address = uri(at, { hint: "", placeholder: "or its URI, such as s3://bucket/path" });
  const sending = uploading(address.node, at);
  address.node.addEventListener("input", sending.stop); // the URI is given instead
  return {
    ...address,
    target: address.node,
    node: h("div.stack", sending.node, address.node),
    read() {
      if (sending.isActive()) throw new Invalid("The file is still being uploaded");
      return address.read();
    },
  };
}

/** Uploads a file that is chosen, and writes its URI into `target`. */
function uploading(target, { schema, upload, show }) {
  const progress = h("progress", { hidden: true, "aria-label": "Upload" });
  const status = h("p.hint.optional", { role: "status" });
  const picker = h("input", {
    type: "file",
    accept: schema.properties.kind.enum[0] === "dataframe" && ".csv,.parquet",
    "aria-label": "Choose a file, or drop it here",
    change: send,
  });
  let leaving = new AbortController();

  function say(state, error = "") {
    status.textContent = state;
    progress.hidden = state !== "Uploading…";
    if (!state) picker.value = ""; // so that the same file can be chosen again
    show(error);
  }

  function stop() {
    leaving.abort();
    say("");
  }

  async function send() {
    const [chosen] = picker.files;
    leaving.abort();
    leaving = new AbortController();
    const { signal } = leaving;
    if (!chosen) return say("");
    target.value = ""; // of the file before
    progress.value = 0;
    say("Uploading…");
    try {
      const made = await upload(chosen, signal, (share) => {
        progress.value = share;
      });
      target.value = made.uri;
      say("Uploaded.");
    } catch (problem) {
      if (!signal.aborted) say("", `The file was not uploaded: ${problem.message}`);
    }
  }

  return { node: h("div.stack", picker, progress, status), stop, isActive: () => !progress.hidden };
}

function json(text) {
  try {
    return parse(text);
  } catch (error) {
    throw new Invalid(`This is not JSON: ${error.message}`);
  }
}

function choice({ id, value, schema: { enum: all } }) {
  const others = new Set(all.filter((each) => !isText(each)).map(asText));
  const told = (each) => (others.has(each) ? stringify(each) : asText(each)); // beside 1, "1"
  const node = h(
    "select",
    { id },
    value === undefined && all.length > 1 && h("option", { value: "" }, "Choose…"),
    all.map((each, index) =>
      h("option", { value: index, selected: same(each, value) }, told(each)),
    ),
  );
  return { node, read: () => required(node.value, (index) => all[index]) };
}

function boolean({ id, value }, node = h("input", { id, type: "checkbox", checked: value })) {
  return { node, read: () => node.checked };
}

function said(text, value) {
  return ({ id }) => ({ node: h("output", { id }, text), read: () => value });
}
const isText = (value) => typeof value === "string";

const always = () => true;
const isURI = (value) => isText(value?.uri ?? value);
const isInteger = (value) => isNumber(value) && /^-?\d+$/.test(String(value));
const isFloat = (value) => isNumber(value) || NUMBERS.includes(value);
const isDate = (value) => /^\d{4}-\d\d-\d\d$/.test(value);
const isTime = (value) => /^\d{4}-.*T/.test(value) && !Number.isNaN(Date.parse(value));
const isDuration = (value) => isText(value) && ISO.test(value);
const isChoice = (value, schema) => schema.enum.some((each) => same(each, value));
const AS_JSON = { tag: "textarea", shown: (value) => stringify(value, "  "), from: json };
const IN_WORDS = { shown: (iso) => duration(iso, true), from: (text) => duration(text) };

const kind = (called, fits, make, free = false) => ({ called, fits, make, free });
const lineOf = (options) => (at) => line(at, options);

/**
 * For each kind: its name, a test for values that it can show, a function for its control, and
 * whether nothing has to be entered.
 */
export const CONTROLS = {
  string: kind("text", isText, string),
  file: kind("file", isURI, file),
  uri: kind("URI", isURI, uri),
  secret: kind("secret", isText, secret),
  json: kind("JSON", always, lineOf(AS_JSON)),
  integer: kind("whole number", isInteger, lineOf({ inputmode: "numeric", from: integer })),
  number: kind("number", isFloat, lineOf({ inputmode: "decimal", from: number })),
  date: kind("date", isDate, lineOf({ type: "date" })),
  // Dates also come as date-times; in UTC they are the same day everywhere.
  "date-time": kind("date and time", isTime, dateTime),
  duration: kind("duration", isDuration, lineOf({ ...IN_WORDS, hint: "Such as 1 h 30 min." })),
  choice: kind("choice", isChoice, choice),
  boolean: kind("yes or no", (value) => typeof value === "boolean", boolean, true),
  null: kind("none", (value) => value === null, said("nothing", null), true),
  impossible: kind("", always, said("No value can be entered here.", LEFT_OUT), true),
};
