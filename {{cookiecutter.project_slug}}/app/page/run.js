// One run: what it consists of as it changes, its log as it is written, and its inputs and outputs.
// One stream has all of it but the log; each time it begins again, it sends the whole state.
import { BASE, events, get, parse, part, persist, post } from "./api.js";
import {
  button, card, duration, h, hasEnded, live, name, phaseBadge, phaseWord, runDuration, taskName, values, webLink, when,
} from "./dom.js";
import { logPanel } from "./log.js";
import { questionsPanel } from "./questions.js";
import { link, person, problemBox, session } from "./session.js";

const ROOT = "a0"; // the action that the run began with
const AT_ONCE = 50; // actions that are drawn without a pause
const WAITS = ["queued", "waiting_for_resources", "initializing"]; // phases without a log
// Of its actions
const MOST = 1000; // actions that are shown
const DEEPEST = 8; // levels that are indented
const LONGEST = 500; // characters at the beginning of a text, and at its end
const RESTYLE = 3000; // milliseconds; to fit the bars anew, the browser has to style all of them
const STEPS = ["queued", "waiting_for_resources", "initializing", "running", "paused"];

export async function runView(view, { subject, signal }) {
  const { scope } = session;
  const path = `runs/${part(subject)}`;
  const title = h("h1", { tabindex: -1 }, name(subject));
  view.append(title);
  let run = await get(path, scope, signal);

  const badge = h("span", { role: "status" });
  const facts = h("dl.facts");
  const [error, trouble, refusal, outputs, inputs] = Array.from({ length: 5 }, () => h("div"));
  const sure = h("dialog", { "aria-label": "Abort this run?" },
    h("h2", "Abort this run?"),
    h("p", "Its effects so far remain. It can’t be resumed."),
    h("div.actions", button("Let it run", () => sure.close()), button("Abort the run", stop, { class: "danger" })));
  const abort = button("Abort", () => sure.showModal(), { class: "danger" });
  const report = h("a.button", { hidden: true, target: "_blank", rel: "noreferrer noopener" }, "Report");
  const again = run.task && h("a.button", {
    href: link(`tasks/${part(run.task)}`, { from: run.name, version: run.version }),
  }, "Run again");
  const address = webLink(run.url);
  const elsewhere = address && !/\/\/(localhost|127\.|\[::1)/.test(address) && // the local Flyte has no console
    h("a.button", { href: address, target: "_blank", rel: "noopener noreferrer" }, "Flyte’s console");
  title.replaceChildren(...(run.task ? taskName(run.task) : ["A run"]), " ", badge);
  view.append(
    h("div.title",
      h("p.lead", "Run ", h("code", name(run.name))),
      h("div.actions", abort, report, again, elsewhere)),
    sure, refusal, facts, error, trouble);

  function draw(now) {
    const ended = hasEnded(now) && !hasEnded(run);
    run = now;
    badge.replaceChildren(phaseBadge(run.phase));
    facts.replaceChildren(
      fact("Started by", person(run.executed_by)),
      fact("Started", run.started_at ? when(run.started_at) : "not yet"),
      fact(hasEnded(run) ? "Took" : "So far", runDuration(run)),
      fact("Attempts", String(run.attempts)),
      fact("Project", name(`${run.project} / ${run.domain}`)),
      fact("Version", h("code", name(run.version ?? "–"))));
    error.replaceChildren(run.error ? card("Error", h("pre.told", { dir: "auto", tabindex: 0 }, run.error)) : "");
    if (hasEnded(run) && document.activeElement === abort) title.focus();
    abort.hidden = hasEnded(run);
    if (ended) {
      refusal.replaceChildren();
      showValues();
    }
  }

  async function showValues() {
    try {
      const io = await get(`${path}/io`, scope, signal);
      const none = hasEnded(run) ? "None, because the run did not succeed." : "Shown once the run has succeeded.";
      inputs.replaceChildren(card("Inputs", values(io.inputs)));
      outputs.replaceChildren(card("Outputs", io.outputs ? values(io.outputs) : h("p.faint", none)));
    } catch (problem) {
      if (signal.aborted) return;
      inputs.replaceChildren(card("Inputs and outputs", problemBox(problem, showValues)));
      outputs.replaceChildren();
    }
  }

  async function stop() {
    sure.close();
    await post(`${path}/abort`, scope, {}).then((now) => (draw(now), refusal.replaceChildren()),
      (problem) => refusal.replaceChildren(problemBox(problem)));
  }

  let asked = []; // what it asks, and has asked
  const questions = questionsPanel("Questions", scope);
  const tree = actionsPanel(choose);
  const log = h("div");
  let action = ROOT;
  let leaving = new AbortController();

  function choose(chosen) {
    action = chosen;
    leaving.abort();
    leaving = new AbortController();
    log.replaceChildren();
    follow();
  }

  /** Link to the chosen action's report, and show its log, once Flyte has them: others are not asked for. */
  function follow() {
    const { type, title, phase, attempts, cached, has_report: reports } = tree.get(action) ?? {};
    report.hidden = !reports || !hasEnded({ phase });
    report.href = new URL(`${path}/report${link("", { action }).slice(2)}`, BASE);
    const none = cached || phase === "recovered" ? "Nothing has run: the result is that of an earlier run."
      : type && type !== "task" ? "Only tasks have a log."
      : !phase || (attempts < 2 && WAITS.includes(phase)) ? "It begins when the task does." : "";
    if (log.querySelector(".log")) return;
    if (none) log.replaceChildren(card("Log", h("p.hint", none)));
    else {
      const both = AbortSignal.any([signal, leaving.signal]);
      const of = { run: run.name, action, title: action === ROOT ? "" : title ?? action };
      log.replaceChildren(logPanel(of, scope, both, () => hasEnded(tree.get(of.action))));
    }
  }

  function update(changed) {
    const root = changed.findLast((each) => each.name === ROOT);
    if (root) {
      const { phase, attempts, started_at, ended_at, error } = root;
      draw({ ...run, phase, attempts, started_at, ended_at, error });
    }
    tree.draw(changed);
    const conditions = changed.map((each) => each.condition).filter(Boolean);
    if (root || conditions.length) {
      const latest = new Map([...asked, ...conditions].map((each) => [each.action, each]));
      asked = questions.draw([...latest.values()], hasEnded(run));
    }
    follow();
  }

  draw(run);
  view.append(questions.node, tree.node, h("div.columns", h("div", outputs, inputs), log));
  follow();
  showValues();
  await persist(async (until, connected) => {
    for await (const some of events(`${path}/actions/events`, scope, until, connected)) {
      for (let start = 0; start < some.length; start += AT_ONCE) {
        update(some.slice(start, start + AT_ONCE).map(({ data }) => parse(data)));
        await new Promise((goOn) => setTimeout(goOn)); // the browser does other things in between
      }
    }
    return hasEnded(run);
  }, signal, (problem) => {
    const goesOn = h("p.hint", "The page will continue as soon as this is over.");
    trouble.replaceChildren(...(problem ? [problemBox(problem), goesOn] : []));
  });
}

const fact = (label, value) => h("div", h("dt", label), h("dd", value));

// Its actions as a tree: tasks, traces and questions, why they wait, and where the time went.

/** A text without its middle, if it is long. */
function cut(text) {
  const rest = text.length - 2 * LONGEST;
  return rest > 0 ? `${text.slice(0, LONGEST)}… (${rest} characters are left out) …${text.slice(-LONGEST)}` : text;
}

/** What is kept of an action, as JSON: a part of a string would keep the whole of it in memory. */
const brief = ({ condition, ...action }) => JSON.stringify(action, (key, value) => (typeof value === "string" ? cut(value) : value));

/** A section with the tree; `choose` gets the name of the action that the user selects. */
function actionsPanel(choose) {
  const rows = new Map(); // by name: the action, as text, too, its depth, its item, and the list in that
  let chosen = "a0";
  let origin; // the run's start; these times are in milliseconds
  let end = -Infinity;
  let length; // that the bars are fitted to
  const list = h("ul");
  const tree = h("div.tree", list);
  const note = h("span");
  const node = card("Actions", key(note), tree);
  node.hidden = true;
  const get = (action) => rows.get(action)?.action;

  /** Fit all bars on one scale, from the run's start to its end or now, and say how long that is. */
  function scale() {
    if (origin === undefined) return "";
    const over = hasEnded(get("a0") ?? {});
    const now = Math.max(1, (over ? end : Math.max(end, Date.now())) - origin);
    if (over ? now !== length : !(now - length < RESTYLE)) tree.style.setProperty("--length", (length = now));
    return `The bars span ${duration(now)}.${rows.size < MOST ? "" : ` Only ${MOST} actions are shown.`}`;
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
      const { depth, item, inner } = before ?? { depth: parent ? parent.depth + 1 : 0, item: h("li"), inner: h("ul") };
      const steps = stepsOf(action);
      for (const step of steps) {
        origin ??= step.from;
        step.from = Math.max(step.from, origin); // Flyte rounds some times
        end = Math.max(end, step.to || step.from, Date.parse(action.ended_at) || 0);
      }
      const focused = item.contains(document.activeElement) && !inner.contains(document.activeElement);
      item.replaceChildren(row(action, depth, steps), inner);
      if (focused) item.querySelector("button").focus();
      if (!before) (parent?.inner ?? list).append(item);
      rows.set(action.name, { action, text, depth, item, inner });
    }
    live(note, scale);
    node.hidden = !rows.size;
  }

  function row(action, depth, steps) {
    const select = button(name(action.title ?? action.name), () => {
      rows.get(chosen).item.querySelector("button").ariaPressed = "false";
      select.ariaPressed = "true";
      chosen = action.name;
      choose(chosen);
    }, { class: "choice", title: action.task ?? action.name, "aria-pressed": String(action.name === chosen) });
    return h("div.action", { "data-action": action.name, "--depth": Math.min(depth, DEEPEST) },
      h("div.label",
        phaseBadge(action.phase), select,
        action.parent && h("code.type", { title: action.name }, action.name.slice(0, 5)), // titles may be the same
        action.group && h("span.type", { title: "Group" }, name(action.group)),
        action.attempts > 1 && h("span.type", `${action.attempts} attempts`),
        action.cached && h("span.type", "from the cache"),
        h("span.took", runDuration(action))),
      bar(action, steps, origin),
      action.error && action.parent && h("pre.told", { dir: "auto", tabindex: 0 }, action.error),
      h("ul.events.type", { "aria-label": "What the cluster says" }, action.events.map(event)));
  }

  return { node, draw, get };
}

const event = ({ message, count, last_at: at }) => h("li",
  name(message), count > 1 && ` (seen ${count} times)`, at && [", ", when(at)]);

/** What an action did when: its phases or, if Flyte has recorded none, its start and end. */
function stepsOf({ type, phase, phases, started_at, ended_at, cached }) {
  const known = phases.filter((each) => STEPS.includes(each.phase) && each.started_at);
  const whole = { attempt: 1, phase: type === "condition" ? "paused" : "running", started_at, ended_at };
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
  const parts = steps.map((step, index) => h("i", {
    class: `${step.phase} ${again(step, index) ? "again" : ""}`,
    "--from": step.from - origin,
    "--to": step.to ? step.to - origin : null,
  }));
  const told = ({ phase, from, to }) =>
    `${type === "condition" ? "Waiting for an answer" : phaseWord(phase)} ${duration((to || Date.now()) - from)}`;
  const words = h("span.unseen");
  const node = h("div.bar", h("span", { "aria-hidden": "true" }, parts), words);
  const say = () => (node.title = steps.map((step, index) =>
    `${again(step, index) ? `Attempt ${step.attempt}: ` : ""}${told(step)}`).join(", ") || "Has not run");
  if (steps.every(({ to }) => to)) words.textContent = say();
  else live(words, say);
  return node;
}

/** What the patterns of the bars mean. */
function key(note) {
  const sample = (phase, word = phase) => h("span", h("span.bar", h("i", { class: phase })), word);
  return h("p.hint.key", sample("queued"), sample("initializing"), sample("running"),
    sample("paused", "waiting for an answer"), sample("again running", "a further attempt"), note);
}
