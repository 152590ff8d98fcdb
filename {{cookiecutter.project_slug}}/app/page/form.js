// Builds a form from a JSON Schema. Each row has a label, a control and an error message.
import { parse, stringify, written } from "./api.js";
import { UNITS, asText, button, h, isNumber, isRecord, name, newId } from "./dom.js";

const DEEPEST = 6; // levels of nesting with controls; deeper and unknown values are edited as JSON
const MOST = 2000; // rows made at once, since references can expand to millions; then JSON
const LARGEST = 100_000_000; // bytes of a file, as in the app's limits
const LEFT_OUT = Symbol("left out");
const ZONE = /(Z|[+-]\d\d:?\d\d)$/i; // of an ISO 8601 time
const NUMBERS = ["NaN", "Infinity", "-Infinity"]; // not numbers in JSON

class Invalid extends Error {}

/**
 * Make the form for an object's schema. Its `read()` returns null if some input is not valid; its
 * `fail(errors)` shows errors beside their fields and returns those that belong to no field.
 * What nobody has changed is returned as it was given, and left out if it is a default.
 * `upload(file, signal, progress)` stores a file, and returns an object with its URI.
 */
export function schemaForm(schema, given = {}, title = "Inputs", upload = undefined) {
  const { node, read, fail } = row(schema, given, { root: schema, depth: 0, label: title || undefined, upload });
  const marking = (mark) => (...given) => {
    for (const each of node.querySelectorAll("[aria-invalid]")) each.ariaInvalid = null;
    for (const each of node.querySelectorAll(".error")) each.textContent = "";
    const result = mark(...given);
    node.querySelector("[aria-invalid]")?.focus();
    return result;
  };
  return {
    node,
    read: marking((errors = []) => {
      const value = read(errors);
      return errors.length ? null : value;
    }),
    fail: marking((errors) => errors.filter((each) => !fail(each.location, each.detail))),
  };
}

const same = (one, other) => stringify(one) === stringify(other);
const own = (record = {}, key) => (Object.hasOwn(record, key) ? record[key] : undefined);

/** Resolve a schema's references. Keywords beside a reference take precedence. */
function resolve(schema, root) {
  let found = isRecord(schema) ? schema : {};
  for (let hops = 0; found.$ref && hops < 20; hops++) {
    const { $ref, ...beside } = found;
    found = { ...own(root.$defs, $ref.replace("#/$defs/", "")), ...beside };
  }
  return found;
}

function kindOf(schema, depth) {
  const { type, format, properties } = schema;
  if (schema.not) return "impossible";
  if (schema.enum || "const" in schema) return "choice";
  if (schema.anyOf) return depth > DEEPEST ? "json" : "union";
  if (Array.isArray(type)) return format === "uri" ? "file" : "json";
  if (schema.contentEncoding || ["byte", "binary"].includes(format)) return "bytes";
  if (["date-time", "date", "duration"].includes(format)) return format;
  if (["string", "integer", "number", "boolean", "null"].includes(type)) return type;
  if (depth > DEEPEST) return "json";
  if (type === "array" && isRecord(schema.items) && !schema.prefixItems) return "list";
  if (type === "object" && (properties || schema.additionalProperties)) return properties ? "object" : "dict";
  return "json";
}

let left = MOST; // reset before the next event

/** A row's share of it: one for each row inside, and one for each 100 characters. */
function price({ rows = () => {} }, schema, value) {
  const keys = Object.keys(rows(schema, value) ?? {});
  return keys.length + stringify([keys, value, schema.enum, schema.anyOf, schema.description]).length / 100;
}

/** Make a row. Without a label, its title is shown elsewhere; optional ones may be left out. */
function row(given, start, { root, depth, label, optional, upload }) {
  const schema = resolve(given, root);
  let value = start === undefined ? schema.default : start;
  let kind = KINDS[kindOf(schema, depth)];
  if (start === undefined && kind === KINDS.choice && !kind.fits(value, schema)) value = undefined; // not its name
  if (depth && value !== undefined && !kind.fits(value, schema)) kind = KINDS.json;
  if (left === MOST) queueMicrotask(() => (left = MOST));
  left = Math.max(0, left && left - price(kind, schema, value));
  if (!left) [kind, value] = [KINDS.json, start];
  const id = newId();
  const inner = (part, from, more) => row(part, from, { root, depth: depth + 1, upload, ...more });
  const control = kind.make({ id, schema, value, inner, kindOf: (part) => KINDS[kindOf(part, depth + 1)], root, upload, show });
  const { node, target = node } = control;
  const error = h("p.error", { id: `${id}-error` });
  const hint = h("p.hint", { id: `${id}-hint`, dir: "auto" },
    [depth && schema.description, control.hint].filter(Boolean).join("\n"));
  target.setAttribute("aria-describedby", `${hint.id} ${error.id}`);

  // A field without a default may still be left out: the task then uses its own.
  const omitted = optional && value === undefined && kind !== KINDS.impossible;
  const body = h("div", { hidden: omitted }, node);
  const give = h("input", { type: "checkbox", change: () => (body.hidden = !give.checked) });
  const about = depth > 0 && [kind.called, !optional && !kind.rows && !kind.free && "required"].filter(Boolean).join(", ");
  const title = label !== undefined &&
    h(kind.rows ? "legend" : "label", { for: id }, name(label), " ", about && h("span.type", about));
  if (!title && !kind.rows) target.setAttribute("aria-label", "Value");

  const entered = () => stringify([...body.querySelectorAll("input, select, textarea")].map((each) =>
    (each.type === "checkbox" ? each.checked : each.value)));
  const before = depth && value !== undefined && kind !== KINDS.impossible && entered();

  function show(message) {
    error.textContent = message;
    target.ariaInvalid = message ? "true" : null;
    return true;
  }
  return {
    node: h(kind.rows ? "fieldset" : "div", { class: "field" },
      title, hint, omitted && h("label.toggle", give, "give a value instead of the task’s own"), body, error),
    read(errors) {
      if (omitted && !give.checked) return LEFT_OUT;
      if (before && before === entered()) return optional && start === undefined ? LEFT_OUT : value;
      try {
        return control.read(errors);
      } catch (problem) {
        if (!(problem instanceof Invalid)) throw problem;
        errors.push(show(problem.message));
      }
    },
    /** Show an error at its field, or the nearest one; return false if there is none. */
    fail(location, message) {
      const [step, ...rest] = location;
      const nearer = step !== undefined && control.at?.(step);
      if (nearer) return nearer.fail(kind === KINDS.union ? location : rest, message);
      return (depth > 0 || step === undefined) && show(message);
    },
  };
}

function required(text, from = (same) => same) {
  if (!text) throw new Invalid("A value is required");
  return from(text);
}

/** A text for a value, in one line or, with `tag`, in an area. */
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
    throw new Invalid("This text is empty. Send it again if it is meant to be.");
  };
  return { node, read };
}

function integer(text) {
  if (!/^[+-]?\d+$/.test(text)) throw new Invalid("Give a whole number, such as 42");
  return written(BigInt(text.replace("+", "")).toString());
}

/** Make a number that is no integer, as JSON tells them apart: 1 becomes 1.0. */
function number(text) {
  if (NUMBERS.includes(text)) return text;
  const value = Number(text);
  if (!Number.isFinite(value)) throw new Invalid("Give a number, such as 1.5");
  const short = Object.is(value, -0) ? "-0" : String(value);
  return written(/^-?\d+$/.test(short) ? `${short}.0` : short);
}

const ISO = /^(-?)P(?=\d|T\d)(?:(\d+)W)?(?:(\d+)D)?(?:T(?=\d)(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)(\.\d{1,6})?S)?)?$/;
const WORDS = /^(-?)\s*(?=\d)(?:(\d+)\s*w)?\s*(?:(\d+)\s*d)?\s*(?:(\d+)\s*h)?\s*(?:(\d+)\s*min)?\s*(?:(\d+)(\.\d{1,6})?\s*s)?$/i;
const SECONDS = [604_800, 86_400, 3600, 60, 1]; // of the units above

/** Write "1 h 30 min" or an ISO 8601 duration, whose units are at most weeks, as ISO 8601 or in words. */
function duration(text, inWords) {
  const [, sign, ...parts] = ISO.exec(text.toUpperCase()) ?? WORDS.exec(text) ?? [];
  if (!parts.length) throw new Invalid("Give w, d, h, min and s, such as 1 h 30 min, or PT1H30M");
  const fraction = parts[5] ?? "";
  let rest = SECONDS.reduce((sum, size, index) => sum + size * Number(parts[index] ?? 0), 0);
  if (!inWords) return `${sign}PT${rest}${fraction}S`;
  const words = UNITS.map(([unit, size]) => {
    const amount = Math.floor(rest / size) + (size === 1 ? fraction : "");
    rest %= size;
    return Number(amount) && `${amount} ${unit}`;
  });
  return sign + (words.filter(Boolean).join(" ") || "0 s");
}

/** A time in UTC. One that was given without a time zone stays without: it is nobody's local time. */
function dateTime(at) {
  const naive = at.value && !ZONE.test(at.value);
  return line(at, { type: "datetime-local", step: 1, hint: naive ? "Without a time zone." : "In UTC.",
    shown: (iso) => (naive ? iso : new Date(iso).toISOString()).slice(0, 23).replace(/\.0+$/, ""),
    from(text) {
      const date = new Date(`${text}Z`);
      if (isNaN(date)) throw new Invalid("Give a date and a time, with a year of four digits");
      return naive ? text : date.toISOString();
    } });
}

/** The URI of a file. One from the user's machine can be uploaded. */
function file({ id, value, schema, upload, show }) {
  const uri = line({ id, value: value?.uri ?? value }, { hint: "Such as s3://bucket/path. The app does not open it." });
  const kind = schema.properties?.kind?.const;
  if (!upload || !["file", "dataframe"].includes(kind)) return uri;
  const picker = h("input", { type: "file", accept: kind === "dataframe" && ".csv,.parquet", change: send });
  const progress = h("progress", { hidden: true, "aria-label": "Upload" });
  const said = h("span.hint", { role: "status" });
  let leaving = new AbortController();
  uri.node.addEventListener("input", () => (leaving.abort(), say(""))); // the URI is given instead

  function say(state, error = "") {
    said.textContent = state;
    progress.hidden = state !== "Uploading…";
    if (!state) picker.value = ""; // so that the same file can be chosen again
    show(error);
  }

  async function send() {
    const [chosen] = picker.files;
    leaving.abort();
    const { signal } = (leaving = new AbortController());
    if (!chosen) return say("");
    if (chosen.size > LARGEST) return say("", `A file may have up to ${LARGEST / 1e6} MB. Give the URI of a larger one.`);
    progress.value = 0;
    say("Uploading…");
    try {
      uri.node.value = (await upload(chosen, signal, (share) => (progress.value = share))).uri;
      say("Uploaded.");
    } catch (problem) {
      if (!signal.aborted) say("", `The file was not uploaded: ${problem.message}`);
    }
  }

  return {
    ...uri, target: uri.node,
    node: h("div.stack", uri.node, h("label.hint", "or choose a file, or drop it here", picker), progress, said),
    read() {
      if (!progress.hidden) throw new Invalid("The file is still being uploaded");
      const given = uri.read();
      const [, format] = (kind === "dataframe" && /\.(csv|parquet)$/i.exec(given)) || [];
      return format ? { kind, uri: given, format: format.toLowerCase() } : given;
    },
  };
}

function json(text) {
  try {
    return parse(text);
  } catch (error) {
    throw new Invalid(`This is not JSON: ${error.message}`);
  }
}

const options = (schema) => schema.enum ?? [schema.const];

function choice({ id, value, schema }) {
  const all = options(schema);
  const node = h("select", { id },
    value === undefined && all.length > 1 && h("option", { value: "" }, "Choose…"),
    all.map((each, index) => h("option", { value: index, selected: same(each, value) }, asText(each))));
  return { node, read: () => required(node.value, (index) => all[index]) };
}

function union({ schema, value, inner, kindOf, root }) {
  const all = schema.anyOf.map((each) => ({ ...resolve(each, root), description: undefined }));
  const isPlain = (each) => kindOf(each) === KINDS.string; // beside it, whatever is sent as a text arrives as one
  const variants = all.filter((each) => isPlain(each) || !(all.some(isPlain) && [each.type].flat().includes("string")));
  const kinds = variants.map(kindOf);
  const fitting = kinds.findIndex((kind, index) => value !== undefined && kind.fits(value, variants[index]));
  const target = h("select", { "aria-label": "Kind of value", change: show },
    variants.map((each, index) => h("option", { value: index }, each.title ?? kinds[index].called ?? "other")));
  target.value = Math.max(0, fitting);
  const place = h("div");
  const made = []; // the rows of the variants shown so far, to keep what was typed there
  const current = () => made[target.value];
  function show() {
    const index = Number(target.value);
    made[index] ??= inner(variants[index], index === fitting ? value : undefined);
    place.replaceChildren(current().node);
  }
  show();
  const node = h("div.union", target, place);
  return { node, target, at: current, read: (errors) => current().read(errors) };
}

function object({ schema, value, inner }) {
  const { properties, required: names = [] } = schema;
  const labels = [...new Set([...names, ...Object.keys(properties)])].filter((label) => Object.hasOwn(properties, label));
  const rows = new Map(labels.map((label) =>
    [label, inner(properties[label], own(value, label), { label, optional: !names.includes(label) })]));
  const nodes = [...rows.values()].map((each) => each.node);
  return {
    node: h("div.stack", nodes.length ? nodes : "Nothing to fill in."),
    at: (key) => rows.get(key),
    read(errors) {
      const values = [...rows].map(([key, each]) => [key, each.read(errors)]);
      return Object.fromEntries(values.filter(([, each]) => each !== LEFT_OUT));
    },
  };
}

/** A list of rows that can be added and removed, with or without keys. */
function growing(start, noun, makeRow) {
  const rows = [];
  const list = h("div.stack");
  function append(key, value) {
    const made = makeRow(key, value);
    const item = h("div.item", made.key, made.node, button("×", () => {
      rows.splice(rows.indexOf(made), 1);
      item.remove();
      target.focus();
    }, { "aria-label": `Remove this ${noun}` }));
    rows.push(made);
    list.append(item);
    return item;
  }
  for (const [key, value] of start) append(key, value);
  const target = button(`Add ${noun}`, () => append().querySelector("input, select, textarea, button").focus());
  return { node: h("div.stack", list, h("div", target)), target, rows };
}

function list({ schema, value = [], inner }) {
  const items = growing(value.entries(), "item", (_, start) => inner(schema.items, start));
  const read = (errors) => items.rows.map((each) => each.read(errors));
  return { ...items, read, at: (index) => items.rows[index] };
}

function dict({ schema, value = {}, inner }) {
  const entries = growing(Object.entries(value), "entry", (text = "", start) => {
    const key = h("input", { type: "text", "aria-label": "Key", placeholder: "key", dir: "auto" });
    key.value = text;
    const shown = key.value; // without line breaks
    const called = () => (key.value === shown ? text : key.value);
    return { ...inner(schema.additionalProperties, start), key, called };
  });
  const read = (errors) => {
    const pairs = entries.rows.map((each) => [each.called(), each.read(errors)]);
    if (new Set(pairs.map(([key]) => key)).size < pairs.length) throw new Invalid("Two entries have the same key");
    return Object.fromEntries(pairs);
  };
  return { ...entries, read, at: (key) => entries.rows.find((each) => each.called() === key) };
}

function boolean({ id, value }, node = h("input", { id, type: "checkbox", checked: value })) {
  return { node, read: () => node.checked };
}

const said = (text, value) => ({ id }) => ({ node: h("output", { id }, text), read: () => value });
const isText = (value) => typeof value === "string";

/** For each kind: its name, a test for the values it can show, and a function to make its control. */
const KINDS = {
  string: { called: "text", fits: isText, make: string },
  bytes: { called: "bytes", fits: isText,
    make: (at) => line(at, { tag: "textarea", from: (text) => text.replace(/\s/g, ""), hint: "In Base64." }) },
  file: { called: "URI", fits: (value) => isText(value?.uri ?? value), make: file },
  json: { called: "JSON", fits: () => true,
    make: (at) => line(at, { tag: "textarea", shown: (value) => stringify(value, "  "), from: json }) },
  integer: { called: "whole number", fits: (value) => isNumber(value) && /^-?\d+$/.test(value),
    make: (at) => line(at, { inputmode: "numeric", from: integer }) },
  number: { called: "number", fits: (value) => isNumber(value) || NUMBERS.includes(value),
    make: (at) => line(at, { inputmode: "decimal", from: number }) },
  date: { called: "date", fits: (value) => /^\d{4}-\d\d-\d\d$/.test(value), make: (at) => line(at, { type: "date" }) },
  // Dates also come as date-times; in UTC they are the same day everywhere.
  "date-time": { called: "date and time", fits: (value) => /^\d{4}-.*T/.test(value) && !isNaN(Date.parse(value)), make: dateTime },
  duration: { called: "duration", fits: (value) => isText(value) && ISO.test(value),
    make: (at) => line(at, { shown: (iso) => duration(iso, true), from: (text) => duration(text), hint: "Such as 1 h 30 min." }) },
  choice: { called: "choice", fits: (value, schema) => options(schema).some((each) => same(each, value)), make: choice },
  boolean: { free: true, called: "yes or no", fits: (value) => typeof value === "boolean", make: boolean },
  null: { free: true, called: "none", fits: (value) => value === null, make: said("nothing", null) },
  impossible: { free: true, fits: () => true, make: said("No value can be entered here.", LEFT_OUT) },
  union: { fits: () => true, rows() {}, make: union },
  object: { called: "object", make: object, rows: (schema) => schema.properties,
    fits: (value, { properties }) => isRecord(value) && Object.keys(value).every((key) => Object.hasOwn(properties, key)) },
  dict: { called: "dictionary", fits: isRecord, make: dict, rows: (_, value) => value },
  list: { called: "list", fits: Array.isArray, make: list, rows: (_, value) => value },
};
