// A run's actions as a tree: tasks, traces and questions, why they wait, and where the time went.
import { button, card, h, live, name, update } from "./dom.js";
import { duration, hasEnded, patternOf, phaseBadge, phaseWord } from "./phases.js";
import { runDuration, toneOf, when } from "./phases.js";

export const ROOT = "a0"; // the action that the run began with
const MOST = 1000; // actions that are shown
const DEEPEST = 8; // levels that are indented
const LONGEST = 500; // characters at the beginning of a text, and at its end
// To fit the bars anew, the browser has to style all of them; in milliseconds and as a factor.
const RESTYLE = 3000;
const GROWTH = 1.2;
// The patterns of the bars, and what they mean
const MEANINGS = {
  queued: "queued",
  initializing: "initializing",
  running: "running",
  paused: "waiting for an answer",
  again: "a further attempt",
};

/** A text without its middle, if it is long. */
function cut(text) {
  const rest = text.length - 2 * LONGEST;
  return rest > 0
    ? `${text.slice(0, LONGEST)}… (${rest} characters are left out) …${text.slice(-LONGEST)}`
    : text;
}

/** What is kept of an action, as JSON: a part of a string would keep the whole of it in memory. */
const brief = ({ condition, ...action }) =>
  JSON.stringify(action, (_, value) => (typeof value === "string" ? cut(value) : value));

/** A section with the tree; `choose` gets the name of the action that the user selects. */
export function actionsPanel(choose) {
  const rows = new Map(); // by name: the action, as text, too, its depth, its row, and its children
  const patterns = new Set(); // that the legend explains
  const scale = timeScale();
  const list = h("ul");
  const note = h("p.hint.optional");
  const legend = h("p.hint.legend");
  const node = card("actions", "Actions", legend, note, h("div.tree", list));
  let chosen = ROOT;
  node.hidden = true;
  const get = (name) => rows.get(name)?.action;

  function select(name) {
    const before = chosen;
    chosen = name;
    for (const each of [before, name]) redraw(rows.get(each));
    choose(name);
  }

  function redraw({ action, depth, row }) {
    const { steps, origin } = scale.fit(action);
    const isChosen = action.name === chosen;
    update(row, actionRow(action, { depth, steps, origin, isChosen, select }));
    for (const step of steps) patterns.add(patternOf(step));
    if (steps.some((_, index) => isAgain(steps, index))) patterns.add("again");
  }

  function add(action, text) {
    const parent = rows.get(action.parent);
    const depth = parent ? parent.depth + 1 : 0;
    const entry = rows.get(action.name) ?? { depth, row: h("div"), children: h("ul") };
    if (!rows.has(action.name))
      (parent?.children ?? list).append(h("li", entry.row, entry.children));
    rows.set(action.name, Object.assign(entry, { action, text }));
    redraw(entry);
  }

  /** Show actions that are new or have changed; parents come before their children. */
  function draw(changed) {
    for (const each of changed) {
      const before = rows.get(each.name);
      if (!before && rows.size === MOST) continue;
      const text = brief(each);
      if (before?.text !== text) add(JSON.parse(text), text);
    }
    update(legend, explained(patterns));
    live(note, () => {
      scale.draw(list, hasEnded(get(ROOT) ?? {}));
      return rows.size < MOST ? "" : `Only ${MOST} actions are shown.`;
    });
    node.hidden = !rows.size;
  }

  return { node, draw, get };
}

/** The meanings of patterns. */
const explained = (patterns) =>
  Object.keys(MEANINGS)
    .filter((pattern) => patterns.has(pattern))
    .map((pattern) =>
      h("span", h("span.bar", h("i", { class: look(pattern) })), MEANINGS[pattern]),
    );
const look = (pattern) =>
  `bar-${pattern} ${pattern === "again" ? "bar-running" : ""} ${toneOf({ phase: pattern })}`;

/** One scale for all bars, from the run's start to its end or now; times are in milliseconds. */
function timeScale() {
  let origin; // the run's start
  let end = -Infinity;
  let length; // that the bars are fitted to
  return {
    fit(action) {
      const steps = stepsOf(action);
      for (const step of steps) {
        origin ??= step.from;
        step.from = Math.max(step.from, origin); // Flyte rounds some times
        end = Math.max(end, step.to || step.from, Date.parse(action.ended_at) || 0);
      }
      return { steps, origin };
    },
    draw(list, over) {
      if (origin === undefined) return;
      const now = Math.max(1, (over ? end : Math.max(end, Date.now())) - origin);
      if (over ? now === length : now - length < RESTYLE && now < GROWTH * length) return;
      length = now;
      list.style.setProperty("--length", length);
    },
  };
}

function actionRow(action, { depth, steps, origin, isChosen, select }) {
  const about = { title: action.task ?? action.name, "aria-pressed": `${isChosen}` };
  const title = { class: "choice", ...about };
  return h(
    "div.action",
    { "--depth": Math.min(depth, DEEPEST) },
    h(
      "div.action-title",
      phaseBadge(action.phase),
      button(name(action.title ?? action.name), () => select(action.name), title),
      // Titles may be the same.
      action.parent && h("code.small.faint", { title: action.name }, action.name.slice(0, 5)),
      action.group && h("span.small.faint", { title: "Group" }, name(action.group)),
      action.attempts > 1 && h("span.small.faint", `${action.attempts} attempts`),
      action.cached && h("span.small.faint", "from the cache"),
      action.parent && h("span.row-duration", runDuration(action)), // the run's is among its facts
    ),
    bar(action, steps, origin),
    action.error && action.parent && h("pre.wrapped", { dir: "auto", tabindex: 0 }, action.error),
    h("ul.events", { "aria-label": "What the cluster says" }, action.events.map(event)),
  );
}

const event = ({ message, last_at: at }) => h("li", name(message), at && [", ", when(at)]);

/** What an action did when: its phases or, if Flyte has recorded none, its start and end. */
function stepsOf({ type, phase, phases, started_at, ended_at, cached }) {
  const known = phases.filter((each) => patternOf(each) && each.started_at);
  const lasting = type === "condition" ? "paused" : "running";
  const whole = { attempt: 1, phase: lasting, started_at, ended_at };
  const all = known.length || !started_at || cached || phase === "recovered" ? known : [whole];
  const last = hasEnded({ phase }) ? ended_at : null;
  return all.map((each, index) => ({
    attempt: each.attempt,
    phase: each.phase,
    from: Date.parse(each.started_at),
    to: Date.parse(each.ended_at ?? all[index + 1]?.started_at ?? last), // NaN while it lasts
  }));
}

/** Whether a step begins a further attempt. */
const isAgain = (steps, index) => index > 0 && steps[index].attempt !== steps[index - 1].attempt;

/** The steps on the scale of the tree, and in words for those who do not see them. */
function bar({ type }, steps, origin) {
  const parts = steps.map((step, index) =>
    h("i", {
      class: `bar-${patternOf(step)} ${toneOf(step)} ${isAgain(steps, index) ? "bar-again" : ""}`,
      "--from": step.from - origin,
      "--to": step.to ? step.to - origin : null,
    }),
  );
  const inWords = ({ attempt, phase, from, to }, index) => {
    const word = type === "condition" ? "Waiting for an answer" : phaseWord(phase);
    const begin = isAgain(steps, index) ? `Attempt ${attempt}: ` : "";
    return `${begin}${word} ${duration((to || Date.now()) - from)}`;
  };
  const say = () => steps.map(inWords).join(", ") || "Has not run";
  const words = h("span.unseen", say());
  if (!steps.every(({ to }) => to)) live(words, say);
  const title = steps.every(({ to }) => to) ? say() : null; // it would not be kept up to date
  return h("div.bar", { title }, h("span", { "aria-hidden": "true" }, parts), words);
}
