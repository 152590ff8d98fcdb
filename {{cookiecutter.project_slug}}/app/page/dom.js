// Creates elements without parsing markup, so text always stays text, and updates them in place.
import { stringify } from "./api.js";

/**
 * Make an element; `kind` is its tag and classes: "p.hint". Its attributes come first, if it has
 * any: functions among them handle events, and "--names" are properties for the style sheet.
 */
export function h(kind, ...parts) {
  const [tag, ...classes] = kind.split(".");
  const element = document.createElement(tag);
  const attributes = parts[0]?.constructor === Object ? parts.shift() : {};
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") {
      element[`on${key}`] = value;
      handled.set(element, [...(handled.get(element) ?? []), `on${key}`]);
    } else if (key.startsWith("--"))
      element.style.setProperty(key, value); // the policy forbids style attributes
    else if (value !== false && value != null)
      element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...nodesOf(parts));
  return element;
}

const handled = new WeakMap(); // elements, and the properties that hold their event handlers

const isPart = (part) => part != null && part !== false && part !== "";
const nodeOf = (part) => (part instanceof Node ? part : new Text(part));
const nodesOf = (parts) => parts.flat(Infinity).filter(isPart).map(nodeOf);

/**
 * Make these the children of an element. A child stays, with its focus, selection and scroll
 * position, if it is one of them, or if one of them has the same `data-key`, or the same tag in the
 * same place: it then becomes like that one. An element that holds state, such as a form, has to be
 * the same element at each update, and a child of `parent` itself.
 */
export function update(parent, ...parts) {
  const focused = /** @type {HTMLElement} */ (document.activeElement);
  const hadFocus = parent.contains(focused);
  replaceChildren(parent, nodesOf(parts));
  if (!hadFocus || parent.contains(document.activeElement)) return;
  // An element that a browser without `moveBefore` has moved gets the focus again. If the element
  // is gone, its section says in an element with the tabindex -1 what has happened.
  const section = parent.closest("section, main > *") ?? parent;
  if (parent.contains(focused)) focused.focus();
  else section.querySelector("[tabindex='-1']")?.focus();
}

function replaceChildren(parent, nodes) {
  const lasting = new Set(nodes);
  const keyed = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let next = parent.firstChild;
  for (const node of nodes) {
    const isAlike = next && !lasting.has(next) && next.nodeName === node.nodeName;
    const key = node.dataset?.key;
    const inPlace = isAlike && !key && !next.dataset?.key ? next : null;
    const old = node.parentNode === parent ? node : key ? keyed.get(key) : inPlace;
    if (!old) parent.insertBefore(node, next);
    else if (old === next) next = next.nextSibling;
    else move(old, parent, next);
    if (old && old !== node) become(old, node);
  }
  while (next) {
    const rest = next;
    next = next.nextSibling;
    rest.remove();
  }
}

/** Move an element within its parent. Safari lacks `moveBefore`, which keeps its state. */
function move(element, parent, next) {
  if (parent.moveBefore && parent.isConnected) parent.moveBefore(element, next);
  else parent.insertBefore(element, next);
}

/** Make a node like another one, of which nothing else is used afterwards. */
function become(node, other) {
  if (node instanceof Text) {
    if (node.data !== other.data) node.data = other.data;
    return;
  }
  for (const { name } of [...node.attributes])
    if (!other.hasAttribute(name)) node.removeAttribute(name);
  for (const { name, value } of other.attributes) {
    if (node.getAttribute(name) === value) continue;
    if (name === "style") node.style.cssText = value;
    else node.setAttribute(name, value);
  }
  for (const property of handled.get(other) ?? []) node[property] = other[property];
  const text = ticking.get(other);
  ticking.delete(other);
  ticking.delete(node);
  if (text) live(node, text);
  else replaceChildren(node, [...other.childNodes]);
}

const drawn = new WeakMap(); // elements of lists, and the records that they show, as JSON

/** Show records in a list, by their names; draw those that are new or have changed. */
export function updateList(list, records, draw) {
  const before = new Map([...list.children].map((item) => [item.dataset.key, item]));
  const items = records.map((record) => {
    const [kept, text] = [before.get(record.name), stringify(record)];
    if (kept && drawn.get(kept) === text) return kept;
    const item = draw(record);
    item.dataset.key = record.name;
    drawn.set(kept ?? item, text);
    return item;
  });
  update(list, items);
}

/** Make a button that does not submit a form. */
export const button = (label, click, properties = {}) =>
  h("button", { type: "button", click, ...properties }, label);

/** Make a section of a view, with a title. */
export const card = (id, title, ...parts) =>
  h("section.card", { "aria-labelledby": id }, h("h2", { id }, title), parts);

/** Make a place for parts that are not always there; it takes no space while it is empty. */
export const optional = (...parts) => h("div.optional", parts);

export const asText = (value) => (typeof value === "string" ? value : stringify(value));
export const isNumber = (value) => typeof value === "number" || value instanceof Number;
export const isRecord = (value) =>
  value !== null && typeof value === "object" && !Array.isArray(value) && !isNumber(value);

let ids = 0;
export const newId = () => `i${++ids}`;

/** A name from a user, isolated so that its direction does not affect the text around it. */
export const name = (text, properties) => h("bdi", properties, text);

const ticking = new Map(); // elements whose text changes with time, and functions that return it

/** Keep an element's text up to date. */
export function live(element, text) {
  const now = text();
  if (element.textContent !== now) element.textContent = now;
  ticking.set(element, text);
  return element;
}

/** Write all of them again; main.js does this once a second. */
export function tick() {
  for (const [element, text] of ticking) {
    if (element.isConnected) live(element, text);
    else ticking.delete(element);
  }
}

/** The URL, if it is safe to link to. */
export function webLink(address, base) {
  const url = address && URL.parse(address, base);
  return ["http:", "https:"].includes(url?.protocol) ? url.href : null;
}

export function copyButton(label, text) {
  const copy = button(label, async () => {
    const copied = navigator.clipboard?.writeText(text()).then(() => "Copied");
    copy.textContent = (await copied?.catch(() => null)) ?? "Your browser does not allow it";
    setTimeout(() => copy.replaceChildren(label), 2000);
  });
  return copy;
}
