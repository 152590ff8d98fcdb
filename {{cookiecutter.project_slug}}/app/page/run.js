// One run: what it consists of as it changes, its log as it is written, and its inputs and outputs.
// One stream has all of it but the log; each time it begins again, it sends the whole state.
import { ROOT, actionsPanel } from "./actions.js";
import { BASE, events, get, parse, part, persist, post } from "./api.js";
import {
  button,
  card,
  h,
  hasEnded,
  name,
  phaseBadge,
  runDuration,
  taskName,
  values,
  webLink,
  when,
} from "./dom.js";
import { logPanel } from "./log.js";
import { questionsPanel } from "./questions.js";
import { link, person, problemBox } from "./session.js";

const AT_ONCE = 50; // actions that are drawn without a pause
const WAITS = ["queued", "waiting_for_resources", "initializing"]; // phases without a log

export async function runView(view, { subject, signal }) {
  const path = `runs/${part(subject)}`;
  const title = h("h1", { tabindex: -1 }, name(subject));
  view.append(title);
  let run = await get(path, signal);

  const badge = h("span", { role: "status" });
  const facts = h("dl.facts");
  const [error, trouble, refusal, outputs, inputs] = Array.from({ length: 5 }, () => h("div"));
  const sure = h(
    "dialog",
    { "aria-label": "Abort this run?" },
    h("h2", "Abort this run?"),
    h("p", "Its effects so far remain. It can’t be resumed."),
    h(
      "div.actions",
      button("Let it run", () => sure.close()),
      button("Abort the run", stop, { class: "danger" }),
    ),
  );
  const abort = button("Abort", () => sure.showModal(), { class: "danger" });
  const report = h(
    "a.button",
    { hidden: true, target: "_blank", rel: "noreferrer noopener" },
    "Report",
  );
  const again =
    run.task &&
    h(
      "a.button",
      {
        href: link(`tasks/${part(run.task)}`, { from: run.name, version: run.version }),
      },
      "Run again",
    );
  const address = webLink(run.url);
  const elsewhere =
    address &&
    !/\/\/(localhost|127\.|\[::1)/.test(address) && // the local Flyte has no console
    h(
      "a.button",
      { href: address, target: "_blank", rel: "noopener noreferrer" },
      "Flyte’s console",
    );
  title.replaceChildren(...(run.task ? taskName(run.task) : ["A run"]), " ", badge);
  view.append(
    h(
      "div.title",
      h("p.lead", "Run ", h("code", name(run.name))),
      h("div.actions", abort, report, again, elsewhere),
    ),
    sure,
    refusal,
    facts,
    error,
    trouble,
  );

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
      fact("Version", h("code", name(run.version ?? "–"))),
    );
    error.replaceChildren(
      run.error ? card("Error", h("pre.told", { dir: "auto", tabindex: 0 }, run.error)) : "",
      run.abort_reason ? card("Abort reason", h("p.told", { dir: "auto" }, run.abort_reason)) : "",
    );
    if (hasEnded(run) && document.activeElement === abort) title.focus();
    abort.hidden = hasEnded(run);
    if (ended) {
      refusal.replaceChildren();
      showValues();
    }
  }

  async function showValues() {
    try {
      const io = await get(`${path}/io`, signal);
      const none = hasEnded(run)
        ? "None, because the run did not succeed."
        : "Shown once the run has succeeded.";
      inputs.replaceChildren(card("Inputs", values(io.inputs)));
      outputs.replaceChildren(
        card("Outputs", io.outputs ? values(io.outputs) : h("p.faint", none)),
      );
    } catch (problem) {
      if (signal.aborted) return;
      inputs.replaceChildren(card("Inputs and outputs", problemBox(problem, showValues)));
      outputs.replaceChildren();
    }
  }

  async function stop() {
    sure.close();
    await post(`${path}/abort`, {}).then(
      (now) => {
        draw(now);
        refusal.replaceChildren();
      },
      (problem) => refusal.replaceChildren(problemBox(problem)),
    );
  }

  const questions = questionsPanel("Questions");
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

  /** Link to the chosen action's report, and show its log, once Flyte has them. */
  function follow() {
    const { type, title, phase, attempts, cached, has_report: reports } = tree.get(action) ?? {};
    report.hidden = !reports || !hasEnded({ phase });
    report.href = new URL(`${path}/report?action=${part(action)}`, BASE);
    const none =
      cached || phase === "recovered"
        ? "Nothing has run: the result is that of an earlier run."
        : type && type !== "task"
          ? "Only tasks have a log."
          : !phase || (attempts < 2 && WAITS.includes(phase))
            ? "It begins when the task does."
            : "";
    if (log.querySelector(".log")) return;
    if (none) log.replaceChildren(card("Log", h("p.hint", none)));
    else {
      const both = AbortSignal.any([signal, leaving.signal]);
      const of = { run: run.name, action, title: action === ROOT ? "" : (title ?? action) };
      log.replaceChildren(logPanel(of, both, () => hasEnded(tree.get(of.action))));
    }
  }

  function update(changed) {
    const root = changed.findLast((each) => each.name === ROOT);
    if (root) {
      const { phase, attempts, started_at, ended_at, error, abort_reason } = root;
      const exact = run.started_at ?? started_at; // Flyte rounds that of the action
      draw({ ...run, phase, attempts, started_at: exact, ended_at, error, abort_reason });
    }
    tree.draw(changed);
    const conditions = changed.map((each) => each.condition).filter(Boolean);
    if (root || conditions.length) questions.draw(conditions, hasEnded(run));
    follow();
  }

  draw(run);
  view.append(questions.node, tree.node, h("div.columns", h("div", outputs, inputs), log));
  follow();
  showValues();
  await persist(
    async (until, connected) => {
      for await (const some of events(`${path}/actions/events`, {}, until, connected)) {
        for (let start = 0; start < some.length; start += AT_ONCE) {
          update(some.slice(start, start + AT_ONCE).map(({ data }) => parse(data)));
          await new Promise((goOn) => setTimeout(goOn)); // the browser does other things in between
        }
      }
      return hasEnded(run);
    },
    signal,
    (problem) => {
      const goesOn = h("p.hint", "The page will continue as soon as this is over.");
      trouble.replaceChildren(...(problem ? [problemBox(problem), goesOn] : []));
    },
  );
}

const fact = (label, value) => h("div", h("dt", label), h("dd", value));
