// Builds a form from a JSON Schema, as tasks.js gets it from GET /tasks/{name}.
// Each row has a label, a control and an error message.
import { stringify } from "./api.js";
import { CONTROLS, Invalid, LEFT_OUT, own } from "./controls.js";
import { button, h, isRecord, name, newId } from "./dom.js";

const DEEPEST = 6; // levels of nesting with controls; deeper and unknown values are edited as JSON
const CONTROL = "input, select, textarea";
const MOST = 2000; // rows made at once, since references can expand to millions; then JSON

/**
 * Make the form for an object's schema. Its `read()` returns null if some input is not valid; its
 * `fail(errors)` shows errors beside their fields and returns those that belong to no field.
 * What nobody has changed is returned as it was given, and so are the defaults of fields.
 * `upload(file, signal, progress)` stores a file, and returns an object with its URI.
 */
export function schemaForm(
  schema,
  given = {},
  title = "Inputs",
  /** @type {Upload} */ upload = undefined,
) {
  const { node, read, fail } = row(schema, given, {
    root: schema,
    depth: 0,
    label: title || undefined,
    upload,
  });
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

function kindOf(schema, depth) {
  const { type, format, properties } = schema;
  if (schema.not) return "impossible";
  if (schema.enum) return "choice";
  if (schema.anyOf) return depth > DEEPEST ? "json" : "union";
  if (Array.isArray(type)) return format === "uri" ? "file" : "json";
  if (["date-time", "date", "duration"].includes(format)) return format;
  if (["string", "integer", "number", "boolean", "null"].includes(type)) return type;
  if (depth > DEEPEST) return "json";
  if (type === "array" && isRecord(schema.items) && !schema.prefixItems) return "list";
  if (type === "object" && (properties || schema.additionalProperties))
    return properties ? "object" : "dict";
  return "json";
}

let left = MOST;
/** Reset it, before the next event. */
function refill() {
  left = MOST;
}

/** A row's share of it: one for each row inside, and one for each 100 characters. */
function price(kind, schema, value) {
  const keys = Object.keys(kind.rows?.(schema, value) ?? {});
  return (
    keys.length +
    stringify([keys, value, schema.enum, schema.anyOf, schema.description]).length / 100
  );
}

/**
 * @typedef {object} Place
 * @property {any} root the schema that references are resolved in
 * @property {number} depth
 * @property {string} [label]
 * @property {boolean} [optional]
 * @property {Upload} [upload]
 * @typedef {(file: File, until: AbortSignal, progress: (share: number) => void) => Promise<any>}
 *   Upload
 */

/** Make a row. Without a label, its title is shown elsewhere; optional ones may be left out. */
function row(given, start, /** @type {Place} */ { root, depth, label, optional, upload }) {
  const schema = resolve(given, root);
  let value = start === undefined ? schema.default : start;
  let kind = KINDS[kindOf(schema, depth)];
  if (depth && value !== undefined && !kind.fits(value, schema)) {
    if (start === undefined && kind === KINDS.choice) value = undefined;
    else kind = KINDS.json;
  }
  if (left === MOST) queueMicrotask(refill);
  left = Math.max(0, left && left - price(kind, schema, value));
  if (!left) [kind, value] = [KINDS.json, start];
  const id = newId();
  const inner = (part, from, more) => row(part, from, { root, depth: depth + 1, upload, ...more });
  const control = kind.make({
    id,
    schema,
    value,
    depth,
    inner,
    kindOf: (part) => KINDS[kindOf(part, depth + 1)],
    root,
    upload,
    show,
  });
  const { node, target = node } = control;
  const error = h("p.error", { id: `${id}-error` });
  const hint = h(
    "p.hint",
    { id: `${id}-hint`, dir: "auto" },
    [depth && schema.description, control.hint].filter(Boolean).join("\n"),
  );
  target.setAttribute("aria-describedby", `${hint.id} ${error.id}`);

  // A field without a default may still be left out: the task then uses its own.
  const omitted = optional && value === undefined && kind !== KINDS.impossible;
  const body = h("div", { hidden: omitted }, node);
  const give = h("input", {
    type: "checkbox",
    change() {
      body.hidden = !give.checked;
    },
  });
  const about =
    depth > 0 &&
    [kind.called, !optional && !kind.rows && !kind.free && "required"].filter(Boolean).join(", ");
  const title =
    label !== undefined &&
    h(
      kind.rows ? "legend" : "label",
      { for: id },
      name(label),
      " ",
      about && h("span.type", about),
    );
  if (!title && !kind.rows) target.setAttribute("aria-label", "Value");

  /** What stands in its controls, and how many each item of its lists has. */
  const entered = () =>
    stringify(
      [...body.querySelectorAll(`${CONTROL}, .item`)].map((each) => {
        if (each.matches(".item")) return each.querySelectorAll(`${CONTROL}, .item`).length;
        return each.type === "checkbox" ? each.checked : each.value;
      }),
    );
  const before = depth && value !== undefined && kind !== KINDS.impossible && entered();

  function show(message) {
    error.textContent = message;
    target.ariaInvalid = message ? "true" : null;
    return true;
  }
  return {
    node: h(
      kind.rows ? "fieldset" : "div",
      { class: "field" },
      title,
      hint,
      omitted && h("label.toggle", give, "give a value instead of the task’s own"),
      body,
      error,
    ),
    read(errors) {
      if (omitted && !give.checked) return LEFT_OUT;
      // Flyte records the default of an input that is left out, but not of a field in it.
      const isLeftOut = depth === 1 && optional && start === undefined;
      if (before && before === entered()) return isLeftOut ? LEFT_OUT : value;
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
        { "aria-label": `Remove this ${noun}` },
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

const KINDS = {
  ...CONTROLS,
  union: { fits: () => true, rows: () => ({}), make: union },
  object: {
    called: "object",
    make: object,
    rows: (schema) => schema.properties,
    fits: (value, { properties }) =>
      isRecord(value) && Object.keys(value).every((key) => Object.hasOwn(properties, key)),
  },
  dict: { called: "dictionary", fits: isRecord, make: dict, rows: (_, value) => value },
  list: { called: "list", fits: Array.isArray, make: list, rows: (_, value) => value },
};
