// One run: its phase as it changes, its log as it is written, and its inputs and outputs.
import { BASE, events, get, parse, part, persist, post } from "./api.js";
import {
  button, card, h, hasEnded, name, person, phaseBadge, phaseWord, runDuration, taskName, webLink, when,
} from "./dom.js";
import { actionsPanel } from "./actions.js";
import { logPanel } from "./log.js";
import { questionsPanel } from "./questions.js";
import { link, problemBox, session } from "./session.js";
import { values } from "./values.js";

export async function runView(view, { subject, signal }) {
  const { scope } = session;
  const path = `runs/${part(subject)}`;
  const title = h("h1", { tabindex: -1 }, name(subject));
  view.append(title);
  let run = await get(path, scope, signal);

  const badge = h("span", { role: "status" });
  const facts = h("dl.facts");
  const phases = h("ol.phases", { "aria-label": "Phases" });
  const [error, trouble, refusal, outputs, inputs] = Array.from({ length: 5 }, () => h("div"));
  const abort = button("Abort", confirmAbort, { class: "danger" });
  const recover = button("Recover", runAgain, { title: "Run again, and take over what has succeeded" });
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
      h("div.actions", abort, report, again, recover, elsewhere)),
    refusal, facts, phases, error, trouble);

  const seen = []; // the phases that this page has seen, with their start times
  function draw(now, told = true) {
    if (seen.at(-1)?.phase !== now.phase) {
      const known = hasEnded(now) ? now.ended_at : now.phase === "running" && now.started_at;
      seen.push({ phase: now.phase, at: known || (told && new Date().toISOString()) });
      phases.replaceChildren(...seen.map(({ phase, at }) => h("li", phaseWord(phase), " ", at && when(at, true))));
    }
    const ended = hasEnded(now) && !hasEnded(run);
    run = now;
    badge.replaceChildren(phaseBadge(run.phase));
    facts.replaceChildren(
      fact("Started by", name(person(run.executed_by))),
      fact("Started", run.started_at ? when(run.started_at) : "not yet"),
      fact(hasEnded(run) ? "Took" : "So far", runDuration(run)),
      fact("Attempts", String(run.attempts)),
      fact("Project", name(`${run.project} / ${run.domain}`)),
      fact("Version", h("code", name(run.version ?? "–"))));
    error.replaceChildren(run.error
      ? card("Error", h("pre.told", { dir: "auto", tabindex: 0 }, run.error)) : "");
    if (hasEnded(run) && document.activeElement === abort) title.focus();
    abort.hidden = hasEnded(run);
    recover.hidden = !["failed", "timed_out", "aborted"].includes(run.phase);
    if (ended) {
      refusal.replaceChildren();
      showValues();
      offerReport();
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

  function confirmAbort() {
    const dialog = h("dialog", { "aria-label": "Abort this run?", close: () => dialog.remove() },
      h("h2", "Abort this run?"),
      h("p", "Its effects so far remain. It can’t be resumed."),
      h("div.actions",
        button("Let it run", () => dialog.close()), button("Abort the run", stop, { class: "danger" })));
    async function stop() {
      dialog.close();
      try {
        draw(await post(`${path}/abort`, scope, {}));
        refusal.replaceChildren();
      } catch (problem) {
        refusal.replaceChildren(problemBox(problem));
      }
    }
    view.append(dialog);
    dialog.showModal();
  }

  async function runAgain() {
    recover.disabled = true;
    try {
      const made = await post(`${path}/rerun`, scope, { recover: true });
      location.hash = link(`runs/${part(made.name)}`);
    } catch (problem) {
      refusal.replaceChildren(problemBox(problem));
    }
    recover.disabled = false;
  }

  /** Link to the report of the chosen action, if it has one. The browser follows the redirect, not this page. */
  async function offerReport() {
    const asked = action;
    const address = new URL(`${path}/report${link("", { action }).slice(2)}`, BASE);
    const response = await fetch(address, { redirect: "manual", signal }).catch(() => ({}));
    response.body?.cancel();
    if (response.type !== "opaqueredirect" || asked !== action) return;
    report.href = address;
    report.hidden = false;
  }

  const log = h("div");
  let action = "a0";
  let leaving = new AbortController();
  function choose({ name: chosen, title }) {
    action = chosen;
    leaving.abort();
    leaving = new AbortController();
    const both = AbortSignal.any([signal, leaving.signal]);
    const ended = () => (action === "a0" ? hasEnded(run) : actions.hasEnded(action));
    log.replaceChildren(logPanel({ run: run.name, action, title: action === "a0" ? "" : title }, scope, both, ended));
    report.hidden = true;
    if (ended()) offerReport();
  }

  if (hasEnded(run) && run.started_at) seen.push({ phase: "running", at: run.started_at });
  draw(run, false);
  const actions = actionsPanel(run.name, scope, signal, () => hasEnded(run), choose);
  view.append(
    questionsPanel(run.name, scope, signal, () => hasEnded(run)), actions.node,
    h("div.columns", h("div", outputs, inputs), log));
  choose({ name: "a0" });
  showValues();
  if (hasEnded(run)) return;
  await persist(async (until, connected) => {
    for await (const some of events(`${path}/events`, scope, until, connected)) {
      for (const { data } of some) draw(parse(data));
    }
    if (hasEnded(run)) draw(await get(path, scope, signal)); // with the error
    return hasEnded(run);
  }, signal, (problem) => {
    trouble.replaceChildren(...(problem
      ? [problemBox(problem), h("p.hint", "The page will continue as soon as this is over.")] : []));
  });
}

const fact = (label, value) => h("div", h("dt", label), h("dd", value));
