// Builds a form from a JSON Schema, as tasks.js gets it from GET /tasks/{name}.
// Each row has a label, a control and an error message.
import { stringify } from "./api.js";
import { CONTROLS, Invalid, LEFT_OUT, own, same } from "./controls.js";
import { button, h, isRecord, name, newId } from "./dom.js";

const DEEPEST = 6; // levels of nesting with controls; deeper and unknown values are edited as JSON
const CONTROL = "input, select, textarea";
const MOST = 2000; // rows made at once, since references can expand to millions; then JSON

/**
 * Make the form for an object's schema. Its `read()` returns null if some input is not valid; its
 * `fail(errors)` shows errors beside their fields and returns those that belong to no field.
 * What nobody has changed is returned as it was given; defaults are as `isExact` says.
 * `upload(file, signal, progress)` stores a file, and returns an object with its URI.
 */
export function schemaForm(
  schema,
  given = {},
  title = "Inputs",
  /** @type {Upload} */ upload = undefined,
) {
  /** @type {Form} */
  const form = { root: schema, upload, left: MOST };
  const { node, read, fail } = row(schema, given, { form, depth: 0, label: title || undefined });
  // Each event may make as many rows again.
  for (const kind of ["click", "change"])
    node.addEventListener(kind, () => Object.assign(form, { left: MOST }), { capture: true });
  const marking =
    (mark) =>
    (...given) => {
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

/** Resolve a schema's references. Keywords beside a reference take precedence. */
function resolve(schema, root) {
  let found = isRecord(schema) ? schema : {};
  for (let hops = 0; found.$ref && hops < 20; hops++) {
    const { $ref, ...beside } = found;
    found = { ...own(root.$defs, $ref.replace("#/$defs/", "")), ...beside };
  }
  return found;
}

const fileOrURI = (/** @type {any} */ { kind } = {}) =>
  ["file", "dataframe"].includes(kind?.enum?.[0]) ? "file" : "uri";

function kindOf(schema, depth) {
  const { type, format, properties } = schema;
  if (schema.not) return "impossible";
  if (schema.enum) return "choice";
  if (schema.anyOf) return depth > DEEPEST ? "json" : "union";
  if (Array.isArray(type)) return format === "uri" ? fileOrURI(properties) : "json";
  if (format === "password") return "secret";
  if (["date-time", "date", "duration"].includes(format)) return format;
  if (["string", "integer", "number", "boolean", "null"].includes(type)) return type;
  if (depth > DEEPEST) return "json";
  if (type === "array" && isRecord(schema.items) && !schema.prefixItems) return "list";
  if (type === "object" && (properties || schema.additionalProperties))
    return properties ? "object" : "dict";
  return "json";
}

/** A row's share of `left`: one for each row inside, and one for each 100 characters. */
function price(kind, schema, value) {
  const keys = Object.keys(kind.rows?.(schema, value) ?? {});
  return (
    keys.length +
    stringify([keys, value, schema.enum, schema.anyOf, schema.description]).length / 100
  );
}

/**
 * The parts of a form know the schema that references are resolved in, and how many rows may still
 * be made. The place of a row says whether its value is part of a default.
 * @typedef {(file: File, until: AbortSignal, progress: (share: number) => void) => Promise<any>}
 *   Upload
 * @typedef { { root: any, upload?: Upload, left: number }} Form
 * @typedef { { form: Form, depth: number, isDefault?: boolean, label?: string,
 *   optional?: boolean }} Place
 */

/**
 * Whether a default can be shown: secrets are written as stars, and that of an Enum may be the name
 * of a member or the value of another one.
 */
const isKnown = ({ format, anyOf: [one, value] = [] }) =>
  format !== "password" && !(one?.enum && Array.isArray(value?.type) && !value.format);

/** Whether a default arrives as it is if it is sent: a part of a union may become another type. */
function isExact(given, root, work = { left: 500 }) {
  const schema = resolve(given, root);
  work.left -= 1;
  if (work.left < 0 || schema.anyOf || !isKnown(schema)) return false;
  const { items, additionalProperties: entries, properties = {} } = schema;
  const inner = [items, entries, ...Object.values(properties)].filter(isRecord);
  return inner.every((each) => isExact(each, root, work));
}

/** Choose the kind of control: JSON if no other one fits, or if there are too many rows. */
function choose(given, start, /** @type {Place} */ { form, depth, isDefault }) {
  const schema = resolve(given, form.root);
  let value = start === undefined ? schema.default : start;
  let kind = KINDS[kindOf(schema, depth)];
  if (isDefault && !isKnown(schema)) value = undefined;
  if (depth && value !== undefined && !kind.fits(value, schema)) {
    if (start === undefined && kind === KINDS.choice) value = undefined;
    else kind = KINDS.json;
  }
  form.left = Math.max(0, form.left && form.left - price(kind, schema, value));
  return form.left ? { schema, kind, value } : { schema, kind: KINDS.json, value: start };
}

/** Make a row. Without a label, its title is shown elsewhere; optional ones may be left out. */
function row(given, start, /** @type {Place} */ place) {
  const { form, depth, label, optional } = place;
  const isDefault = place.isDefault || start === undefined;
  const { schema, kind, value } = choose(given, start, { ...place, isDefault });
  const id = newId();
  const inner = (part, from, more) =>
    row(part, from, { form, depth: depth + 1, isDefault, ...more });
  const control = kind.make({
    ...{ id, schema, value, depth, inner, show, root: form.root, upload: form.upload },
    kindOf: (part) => KINDS[kindOf(part, depth + 1)],
  });
  const { node, target = node } = control;
  const { hint, error } = describe(target, id, [depth && schema.description, control.hint]);
  if (label === undefined && !kind.rows) target.setAttribute("aria-label", "Value");

  const isGiven = value !== undefined && kind !== KINDS.impossible;
  // A field without a default may still be left out: the task then uses its own.
  const choice = optional && !isGiven && kind !== KINDS.impossible && omission(node);
  const before = depth && isGiven && entered(node);
  // Flyte records the default of an input that is left out, but not of a field in it.
  const isOwn = depth === 1 ? start === undefined : same(value, schema.default);
  const isLeftOut = optional && isDefault && isOwn && (depth === 1 || !isExact(schema, form.root));

  function show(message) {
    error.textContent = message;
    target.ariaInvalid = message ? "true" : null;
    return true;
  }
  return {
    node: h(
      kind.rows ? "fieldset.field" : "div.field",
      label !== undefined && labelOf(label, kind, place, id),
      hint,
      choice ? choice.node : h("div", node),
      error,
    ),
    read(errors) {
      if (choice && !choice.isGiven()) return LEFT_OUT;
      if (before && before === entered(node)) return isLeftOut ? LEFT_OUT : value;
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

/** Make the hint and the error of a control. */
function describe(target, id, hints) {
  const text = hints.filter(Boolean).join("\n");
  const hint = h("p.hint.optional", { id: `${id}-hint`, dir: "auto" }, text);
  const error = h("p.error.optional", { id: `${id}-error` });
  target.setAttribute("aria-describedby", `${hint.id} ${error.id}`);
  return { hint, error };
}

/** A row's label, with the name of its kind. */
function labelOf(label, kind, /** @type {Place} */ { depth, optional }, id) {
  const required = !optional && !kind.rows && !kind.free && "required";
  const about = depth > 0 && [kind.called, required].filter(Boolean).join(", ");
  const tag = kind.rows ? "legend" : "label";
  return h(tag, { for: id }, name(label), " ", about && h("span.type", about));
}

/** A control that is hidden as long as its value is left out. */
function omission(control) {
  const body = h("div", { hidden: true }, control);
  const box = h("input", {
    type: "checkbox",
    change() {
      body.hidden = !box.checked;
    },
  });
  const toggle = h("label.toggle", box, "give a value instead of the task’s own");
  return { node: h("div.stack", toggle, body), isGiven: () => box.checked };
}

/** What stands in the controls of an element, and how many each item of its lists has. */
const entered = (node) =>
  stringify(
    [node, ...node.querySelectorAll(`${CONTROL}, .item`)].map((each) => {
      if (each.matches(".item")) return each.querySelectorAll(`${CONTROL}, .item`).length;
      return each.type === "checkbox" ? each.checked : each.value;
    }),
  );

function union({ schema, value, inner, kindOf, root }) {
  const all = schema.anyOf.map((each) => ({ ...resolve(each, root), description: undefined }));
  // Beside a plain text, whatever is sent as a text arrives as one.
  const isPlain = (each) => kindOf(each) === KINDS.string;
  const variants = all.filter(
    (each) => isPlain(each) || !(all.some(isPlain) && [each.type].flat().includes("string")),
  );
  const kinds = variants.map(kindOf);
  const fitting = kinds.findIndex(
    (kind, index) => value !== undefined && kind.fits(value, variants[index]),
  );
  const target = h(
    "select",
    { "aria-label": "Kind of value", change: show },
    variants.map((each, index) =>
      h("option", { value: index }, each.title ?? kinds[index].called ?? "other"),
    ),
  );
  target.value = Math.max(0, fitting);
  const place = h("div");
  const made = []; // the rows of the variants shown so far, to keep what was typed there
  const current = () => made[target.value];
  function show() {
    const index = Number(target.value);
    made[index] ??= inner(variants[index], index === fitting ? value : undefined);
    place.replaceChildren(current().node);
    place.hidden = kinds[index] === KINDS.null; // whose name says all
  }
  show();
  const node = h("div.union", target, place);
  return { node, target, at: current, read: (errors) => current().read(errors) };
}

function object({ schema, value, inner }) {
  const { properties, required: names = [] } = schema;
  const labels = [...new Set([...names, ...Object.keys(properties)])].filter((label) =>
    Object.hasOwn(properties, label),
  );
  const rows = new Map(
    labels.map((label) => [
      label,
      inner(properties[label], own(value, label), { label, optional: !names.includes(label) }),
    ]),
  );
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
    const item = h(
      "div.item",
      made.key,
      made.node,
      button(
        "×",
        () => {
          rows.splice(rows.indexOf(made), 1);
          item.remove();
          target.focus();
        },
        { class: "remove", "aria-label": `Remove this ${noun}` },
      ),
    );
    rows.push(made);
    list.append(item);
    return item;
  }
  for (const [key, value] of start) append(key, value);
  const target = button(`Add ${noun}`, () => append().querySelector(`${CONTROL}, button`).focus());
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
    if (new Set(pairs.map(([key]) => key)).size < pairs.length)
      throw new Invalid("Two entries have the same key");
    return Object.fromEntries(pairs);
  };
  return { ...entries, read, at: (key) => entries.rows.find((each) => each.called() === key) };
}

const isObject = (value, { properties }) =>
  isRecord(value) && Object.keys(value).every((key) => Object.hasOwn(properties, key));
const KINDS = {
  ...CONTROLS,
  union: { fits: () => true, rows: () => ({}), make: union },
  object: { called: "object", make: object, rows: ({ properties }) => properties, fits: isObject },
  dict: { called: "dictionary", fits: isRecord, make: dict, rows: (_, value) => value },
  list: { called: "list", fits: Array.isArray, make: list, rows: (_, value) => value },
};
