// A run's actions as a tree: tasks, traces and questions, why they wait, and where the time went.
import { button, card, duration, h, hasEnded, live, name, phaseBadge } from "./dom.js";
import { phaseWord, runDuration, when } from "./dom.js";

export const ROOT = "a0"; // the action that the run began with
const MOST = 1000; // actions that are shown
const DEEPEST = 8; // levels that are indented
const LONGEST = 500; // characters at the beginning of a text, and at its end
// To fit the bars anew, the browser has to style all of them; in milliseconds and as a factor.
const RESTYLE = 3000;
const GROWTH = 1.2;
// The patterns of the bars: their classes, and what they mean
const MEANINGS = {
  queued: ["queued", "queued"],
  initializing: ["initializing", "initializing"],
  running: ["running", "running"],
  paused: ["paused", "waiting for an answer"],
  again: ["again running", "a further attempt"],
};
const STEPS = ["queued", "waiting_for_resources", "initializing", "running", "paused"];

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
  // By name: the action, as text, too, its depth, its item, and the list in that
  const rows = new Map();
  const known = new Set(); // patterns that the legend explains
  let chosen = ROOT;
  let origin; // the run's start; these times are in milliseconds
  let end = -Infinity;
  let length; // that the bars are fitted to
  const list = h("ul");
  const tree = h("div.tree", list);
  const note = h("p.hint");
  const legend = h("p.hint.key");
  const node = card("Actions", legend, note, tree);
  node.hidden = true;
  const get = (action) => rows.get(action)?.action;

  function fit(now) {
    length = now;
    tree.style.setProperty("--length", length);
  }

  /** Fit all bars on one scale, from the run's start to its end or now. */
  function scale() {
    if (origin === undefined) return "";
    const over = hasEnded(get(ROOT) ?? {});
    const now = Math.max(1, (over ? end : Math.max(end, Date.now())) - origin);
    if (over ? now !== length : !(now - length < RESTYLE && now < GROWTH * length)) fit(now);
    return rows.size < MOST ? "" : `Only ${MOST} actions are shown.`;
  }

  /** Show actions that are new or have changed; parents come before their children. */
  function draw(changed) {
    for (const each of changed) {
      const before = rows.get(each.name);
      if (!before && rows.size === MOST) continue;
      const text = brief(each);
      if (before?.text === text) continue;
      const action = JSON.parse(text);
      const parent = rows.get(action.parent);
      const { depth, item, inner } = before ?? {
        depth: parent ? parent.depth + 1 : 0,
        item: h("li"),
        inner: h("ul"),
      };
      const steps = stepsOf(action);
      for (const step of steps) {
        origin ??= step.from;
        step.from = Math.max(step.from, origin); // Flyte rounds some times
        end = Math.max(end, step.to || step.from, Date.parse(action.ended_at) || 0);
      }
      const focused =
        item.contains(document.activeElement) && !inner.contains(document.activeElement);
      item.replaceChildren(row(action, depth, steps), inner);
      if (focused) item.querySelector("button").focus();
      if (!before) (parent?.inner ?? list).append(item);
      rows.set(action.name, { action, text, depth, item, inner });
      explain(steps);
    }
    live(note, scale);
    node.hidden = !rows.size;
  }

  /** Tell what the patterns of these steps mean. */
  function explain(steps) {
    for (const step of steps) {
      const kinds = [step.phase === "waiting_for_resources" ? "queued" : step.phase];
      if (step.attempt > 1) kinds.push("again");
      for (const kind of kinds) known.add(kind);
    }
    if (legend.childElementCount === known.size) return;
    legend.replaceChildren(
      ...Object.entries(MEANINGS)
        .filter(([kind]) => known.has(kind))
        .map(([, [classes, meaning]]) =>
          h("span", h("span.bar", h("i", { class: classes })), meaning),
        ),
    );
  }

  function row(action, depth, steps) {
    const select = button(
      name(action.title ?? action.name),
      () => {
        rows.get(chosen).item.querySelector("button").ariaPressed = "false";
        select.ariaPressed = "true";
        chosen = action.name;
        choose(chosen);
      },
      {
        class: "choice",
        title: action.task ?? action.name,
        "aria-pressed": String(action.name === chosen),
      },
    );
    return h(
      "div.action",
      { "data-action": action.name, "--depth": Math.min(depth, DEEPEST) },
      h(
        "div.label",
        phaseBadge(action.phase),
        select,
        // Titles may be the same.
        action.parent && h("code.type", { title: action.name }, action.name.slice(0, 5)),
        action.group && h("span.type", { title: "Group" }, name(action.group)),
        action.attempts > 1 && h("span.type", `${action.attempts} attempts`),
        action.cached && h("span.type", "from the cache"),
        action.parent && h("span.took", runDuration(action)), // the run's is among its facts
      ),
      bar(action, steps, origin),
      action.error && action.parent && h("pre.told", { dir: "auto", tabindex: 0 }, action.error),
      h("ul.events.type", { "aria-label": "What the cluster says" }, action.events.map(event)),
    );
  }

  return { node, draw, get };
}

const event = ({ message, last_at: at }) => h("li", name(message), at && [", ", when(at)]);

/** What an action did when: its phases or, if Flyte has recorded none, its start and end. */
function stepsOf({ type, phase, phases, started_at, ended_at, cached }) {
  const known = phases.filter((each) => STEPS.includes(each.phase) && each.started_at);
  const whole = {
    attempt: 1,
    phase: type === "condition" ? "paused" : "running",
    started_at,
    ended_at,
  };
  const all = known.length || !started_at || cached || phase === "recovered" ? known : [whole];
  const last = hasEnded({ phase }) ? ended_at : null;
  return all.map((each, index) => ({
    attempt: each.attempt,
    phase: each.phase,
    from: Date.parse(each.started_at),
    to: Date.parse(each.ended_at ?? all[index + 1]?.started_at ?? last), // NaN while it lasts
  }));
}

/** The steps on the scale of the tree, and in words for those who do not see them. */
function bar({ type }, steps, origin) {
  const again = ({ attempt }, index) => index > 0 && attempt !== steps[index - 1].attempt;
  const parts = steps.map((step, index) =>
    h("i", {
      class: `${step.phase} ${again(step, index) ? "again" : ""}`,
      "--from": step.from - origin,
      "--to": step.to ? step.to - origin : null,
    }),
  );
  const told = ({ phase, from, to }) => {
    const word = type === "condition" ? "Waiting for an answer" : phaseWord(phase);
    return `${word} ${duration((to || Date.now()) - from)}`;
  };
  const words = h("span.unseen");
  const node = h("div.bar", h("span", { "aria-hidden": "true" }, parts), words);
  const said = (step, index) =>
    again(step, index) ? `Attempt ${step.attempt}: ${told(step)}` : told(step);
  function say() {
    node.title = steps.map(said).join(", ") || "Has not run";
    return node.title;
  }
  if (steps.every(({ to }) => to)) words.textContent = say();
  else live(words, say);
  return node;
}
