// The runs of a project, newest first, kept up to date.
import { get, part, refresh } from "./api.js";
import { h, name, optional, update, updateList } from "./dom.js";
import { person, taskName } from "./names.js";
import { hasEnded, phaseBadge, phasesOf, runDuration, when } from "./phases.js";
import { questionsPanel } from "./questions.js";
import { link, loadAsking, problemBox, session } from "./session.js";

const PAGE = 25;
// Together at most 15 calls to Flyte a minute, two with each refresh; in milliseconds.
const SOON = 10_000; // between refreshes while a run of the user's own goes on
const LATER = 20_000;
// Pause for each call that a list of the questions takes, until the next list, if none came
const PAUSE_PER_CALL = 20_000;
// How long after an answer the questions are read with each refresh: the run may ask again
const AFTER_ANSWER = 60_000;
const MAX_QUESTIONS = 50;

const FILTERS = {
  "": "Any phase",
  active: "Not ended",
  succeeded: "Succeeded",
  failed: "Failed",
  aborted: "Aborted",
};

export function runsView(view, { query, signal }) {
  const form = filterForm(query);
  const list = h("ul.rows.runs");
  const [problem, older] = [optional(), optional()];
  const status = h("p.hint.optional", { role: "status" });
  const questions = questionsWaiting(signal);
  const state = { query, runs: null, user: null, problem: null };

  function draw(changes = {}) {
    Object.assign(state, changes);
    form.draw(state);
    update(problem, state.problem && problemBox(state.problem));
    keepInPlace(list, () => updateList(list, state.runs ?? [], item));
    update(status, statusOf(state));
    update(older, olderRuns(state));
  }

  view.append(form.node, questions.node, problem, list, status, older);
  draw();
  refresh(
    async () => {
      const user = (await session.me?.catch(() => null))?.subject;
      const [runs, asking] = await Promise.all([load(query, user, signal), loadAsking(signal)]);
      draw({ runs, user });
      await questions.load(asking);
    },
    () => (state.runs?.some((run) => isOwn(run, state.user)) ? SOON : LATER),
    signal,
    (failure) => draw({ problem: failure }),
  );
}

/** Load the runs that the filters choose; Flyte can't list the runs of nobody. */
function load({ everyone, task, phase: group, before }, user, signal) {
  const [subject, phase] = [everyone ? null : user, phasesOf(group)];
  return get("runs", signal, { subject, task, phase, before, limit: PAGE });
}

const isOwn = (run, user) => user && !hasEnded(run) && run.executed_by?.subject === user;

/** Draw, and keep the row under the pointer there: a click is meant for it. */
function keepInPlace(list, draw) {
  const row = list.querySelector("li:hover");
  const before = row?.getBoundingClientRect().top;
  draw();
  if (row?.isConnected) scrollBy(0, row.getBoundingClientRect().top - before);
}

function statusOf({ query, runs, user, problem }) {
  if (problem || runs?.length) return "";
  if (!runs) return "Loading…";
  if (query.task || query.phase || query.before) return "No matching runs.";
  return [
    user && !query.everyone ? "You have run nothing here yet. " : "Nothing has run here yet. ",
    h("a", { href: link("tasks") }, "Choose a task"),
    " and run it.",
  ];
}

function olderRuns({ query, runs }) {
  const before = runs?.length === PAGE && runs.at(-1).started_at;
  return before && h("a.button", { href: link("runs", { ...query, before }) }, "Older runs");
}

const href = (run) => link(`runs/${part(run.name)}`);
const item = (run) =>
  h(
    "li",
    phaseBadge(run.phase),
    h("a.row-link", { href: href(run) }, run.task ? taskName(run.task) : "A run"),
    h("code.row-about", name(run.name)),
    h("span.row-owner.small", person(run.executed_by)),
    h("span.row-time.small", run.started_at ? when(run.started_at) : "not started"),
    h("span.row-duration", runDuration(run)),
  );

/** The filters, which are part of the URL; `draw` suggests the tasks of the listed runs. */
function filterForm(query) {
  const suggestions = h("datalist", { id: "tasks" });
  const task = h("input", {
    type: "search",
    list: "tasks",
    value: query.task,
    "aria-label": "Task",
    placeholder: "Any task",
  });
  const options = Object.entries(FILTERS).map(([value, label]) =>
    h("option", { value, selected: value === query.phase }, label),
  );
  const phase = h("select", { "aria-label": "Phase" }, options);
  const everyone = h("input", { type: "checkbox", checked: Boolean(query.everyone) });
  const whose = h("label.toggle", { hidden: true }, everyone, "Everyone’s");
  function change() {
    location.hash = link("runs", {
      task: task.value.trim(),
      phase: phase.value,
      everyone: everyone.checked ? "yes" : "",
    });
  }
  return {
    node: h(
      "div.title",
      h("h1", { tabindex: -1 }, "Runs"),
      h("form.filters", { change }, whose, task, suggestions, phase),
    ),
    draw({ runs, user }) {
      whose.hidden = !user;
      const tasks = [...new Set(runs?.flatMap((run) => run.task ?? []))];
      update(suggestions, ...tasks.map((value) => h("option", { value })));
    },
  };
}

/** The questions of everyone's runs, which are read when the runs that ask have changed. */
function questionsWaiting(signal) {
  let [before, due, recent] = ["", 0, 0];
  const panel = questionsPanel("Waiting for an answer", {
    everywhere: true,
    most: MAX_QUESTIONS,
    answered() {
      recent = Date.now() + AFTER_ANSWER;
    },
  });
  async function load(asking) {
    const now = asking.map((run) => run.name).join(" ");
    const isDue = now && Date.now() >= due;
    if (now === before && !isDue && Date.now() > recent) return;
    const conditions = now ? await get("conditions", signal, { limit: MAX_QUESTIONS }) : [];
    panel.draw(conditions);
    before = now;
    due = Date.now() + PAUSE_PER_CALL * (1 + asking.length + conditions.length);
  }
  return { node: panel.node, load };
}
