// One run: its actions as they change, its log as it is written, and its inputs and outputs.
// One stream has all of it but the log; each time it begins again, it sends the whole state.
import { actionsPanel, ROOT } from "./actions.js";
import { BASE, events, get, parse, part, persist, post } from "./api.js";
import { button, card, h, name, optional, update, webLink } from "./dom.js";
import { logPanel } from "./log.js";
import { person, taskName } from "./names.js";
import { hasEnded, isWaiting, phaseBadge, runDuration, when } from "./phases.js";
import { questionsPanel } from "./questions.js";
import { change, link, problemBox } from "./session.js";
import { values } from "./values.js";

const AT_ONCE = 50; // actions that are drawn without a pause
const GOES_ON = "The page will continue as soon as this is over.";

export async function runView(view, { subject, signal }) {
  const path = `runs/${part(subject)}`;
  view.append(h("h1", { tabindex: -1 }, name(subject)));
  const run = await get(path, signal);
  const state = { run, action: ROOT, report: null, refusal: null, trouble: null };
  const abort = abortDialog(path, (now, refusal = null) =>
    draw({ run: now && !hasEnded(state.run) ? now : state.run, refusal }),
  );
  const questions = questionsPanel("Questions");
  const tree = actionsPanel((action) => follow(action));
  const io = valuesPanel(path, signal);
  const log = logOfAction(state, tree, signal);
  const columns = h("div.columns", io.node, log.node);
  const lasting = { abort, questions, tree, columns };

  function draw(changes = {}) {
    const before = state.run;
    Object.assign(state, changes);
    if (hasEnded(state.run) && !hasEnded(before)) {
      state.refusal = null;
      io.load(state.run);
    }
    update(view, parts(state, lasting));
  }

  /** Choose an action; link to its report, and show its log, once Flyte has them. */
  function follow(action = state.action) {
    state.action = action;
    log.follow(state.run);
    const { has_report: isThere, ...chosen } = tree.get(action) ?? {};
    const address = isThere && hasEnded(chosen) && `${path}/report?action=${part(action)}`;
    draw({ report: address && new URL(address, BASE) });
  }

  function take(changed) {
    const root = changed.findLast((each) => each.name === ROOT);
    if (root) {
      const { phase, attempts, ended_at, error, abort_reason } = root;
      const started_at = state.run.started_at ?? root.started_at; // Flyte rounds that of the action
      const now = { phase, attempts, started_at, ended_at, error, abort_reason };
      draw({ run: { ...state.run, ...now } });
    }
    tree.draw(changed);
    const conditions = changed.map((each) => each.condition).filter(Boolean);
    if (root || conditions.length) questions.draw(conditions, hasEnded(state.run));
    follow();
  }

  follow();
  io.load(state.run);
  await persist(
    async (until, connected) => {
      await watch(path, until, connected, take);
      return hasEnded(state.run);
    },
    signal,
    (trouble) => draw({ trouble }),
  );
}

/** Follow a run's actions; `take` gets those that are new or have changed. */
async function watch(path, until, connected, take) {
  for await (const some of events(`${path}/actions/events`, {}, until, connected)) {
    for (let start = 0; start < some.length; start += AT_ONCE) {
      take(some.slice(start, start + AT_ONCE).map(({ data }) => parse(data)));
      await new Promise((goOn) => setTimeout(goOn)); // the browser does other things in between
    }
  }
}

const parts = ({ run, report, refusal, trouble }, { abort, questions, tree, columns }) => [
  h(
    "h1",
    { tabindex: -1 },
    run.task ? taskName(run.task) : "A run",
    " ",
    h("span", { role: "status" }, phaseBadge(run.phase)),
  ),
  h("div.title", h("p.lead", "Run ", h("code", name(run.name))), buttons(run, report, abort)),
  abort.node,
  optional(refusal && problemBox(refusal)),
  facts(run),
  optional(
    run.error && card("error", "Error", errorText(run.error)),
    run.abort_reason && card("abort-reason", "Abort reason", reasonText(run.abort_reason)),
  ),
  optional(trouble && [problemBox(trouble), h("p.hint", GOES_ON)]),
  questions.node,
  tree.node,
  columns,
];

const errorText = (text) => h("pre.wrapped", { dir: "auto", tabindex: 0 }, text);
const reasonText = (text) => h("p.wrapped", { dir: "auto" }, text);

function buttons(run, report, abort) {
  const elsewhere = { target: "_blank", rel: "noopener noreferrer" };
  const again = link(`tasks/${part(run.task ?? "")}`, { from: run.name, version: run.version });
  const address = webLink(run.url);
  // The local Flyte has no console.
  const isRemote = address && !/\/\/(localhost|127\.|\[::1)/.test(address);
  return h(
    "div.actions",
    !hasEnded(run) && button("Abort", abort.open, { class: "danger", "data-key": "abort" }),
    report && h("a.button", { href: report, "data-key": "report", ...elsewhere }, "Report"),
    run.task && h("a.button", { href: again, "data-key": "again" }, "Run again"),
    isRemote &&
      h("a.button", { href: address, "data-key": "flyte", ...elsewhere }, "Flyte’s console"),
  );
}

const fact = (label, value) => h("div", h("dt", label), h("dd", value));
const facts = (run) =>
  h(
    "dl.facts",
    fact("Started by", person(run.executed_by)),
    fact("Started", run.started_at ? when(run.started_at) : "not yet"),
    fact(hasEnded(run) ? "Took" : "So far", runDuration(run)),
    fact("Attempts", String(run.attempts)),
    fact("Project", name(`${run.project} / ${run.domain}`)),
    fact("Version", h("code", name(run.version ?? "–"))),
  );

/** A dialog that aborts a run; `done` gets the run afterwards, or nothing and why. */
function abortDialog(path, done) {
  async function abort() {
    node.close();
    await change(() => post(`${path}/abort`, {})).then(done, (refusal) => done(null, refusal));
  }
  const leave = button("Let it run", () => node.close());
  const node = h(
    "dialog",
    { "aria-label": "Abort this run?" },
    h("h2", "Abort this run?"),
    h("p", "Its effects so far remain. It can’t be resumed."),
    h("div.actions", leave, button("Abort the run", abort, { class: "danger" })),
  );
  return { node, open: () => node.showModal() };
}

/** A run's inputs and, once it has ended, its outputs. */
function valuesPanel(path, signal) {
  const node = h("div");
  async function load(run) {
    try {
      const { inputs, outputs } = await get(`${path}/io`, signal);
      const none = hasEnded(run)
        ? "None, because the run did not succeed."
        : "Shown once the run has succeeded.";
      const shown = outputs ? values(outputs) : h("p.faint", none);
      const given = card("inputs", "Inputs", values(inputs));
      node.replaceChildren(card("outputs", "Outputs", shown), given);
    } catch (problem) {
      if (signal.aborted) return;
      const box = problemBox(problem, () => load(run));
      node.replaceChildren(card("inputs", "Inputs and outputs", box));
    }
  }
  return { node, load };
}

/** The log of the action that is chosen in the state, or why there is none. */
function logOfAction(state, tree, signal) {
  const node = h("div");
  let followed; // the action whose log is shown
  let leaving = new AbortController();
  function follow(run) {
    const { action: chosen } = state;
    const { type, title, phase, attempts, cached } = tree.get(chosen) ?? {};
    if (followed === chosen) return;
    leaving.abort();
    const none = withoutLog({ type, phase, attempts, cached });
    followed = none ? undefined : chosen;
    if (none) return update(node, card("log", "Log", h("p.hint", none)));
    leaving = new AbortController();
    const both = AbortSignal.any([signal, leaving.signal]);
    const of = { run: run.name, action: chosen, title: chosen === ROOT ? "" : (title ?? chosen) };
    node.replaceChildren(logPanel(of, both, () => hasEnded(tree.get(chosen) ?? {})));
  }
  return { node, follow };
}

/** Why an action has no log; nothing if it may have one. */
function withoutLog({ type, phase, attempts, cached }) {
  if (cached || phase === "recovered")
    return "Nothing has run: the result is that of an earlier run.";
  if (type && type !== "task") return "Only tasks have a log.";
  const hasBegun = phase && (attempts > 1 || !isWaiting({ phase }));
  return hasBegun ? "" : "It begins when the task does.";
}
