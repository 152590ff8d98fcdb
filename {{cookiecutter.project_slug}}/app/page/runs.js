// The runs of a project, newest first, kept up to date.
import { get, part, refresh, stringify } from "./api.js";
import { h, hasEnded, name, phaseBadge, runDuration, taskName, when } from "./dom.js";
import { questionsPanel } from "./questions.js";
import { link, loadAsking, person, problemBox, session } from "./session.js";

const PAGE = 25;
// Together at most 15 calls to Flyte a minute, two with each refresh; in milliseconds.
const SOON = 10_000; // between refreshes while something of one's own runs
const LATER = 20_000;
// For each call that a list of the questions takes, until the next, if none came
const EACH = 20_000;
// After an answer, for which the questions are read with each refresh: the run may ask again
const NEWS = 60_000;
const QUESTIONS = 50;

const PHASES = [
  ["", "Any phase", []],
  ["active", "Not ended", ["queued", "waiting_for_resources", "initializing", "running"]],
  ["succeeded", "Succeeded", ["succeeded", "recovered"]],
  ["failed", "Failed", ["failed", "timed_out"]],
  ["aborted", "Aborted", ["aborted"]],
];

export function runsView(view, { query, signal }) {
  const list = h("ul.rows.runs");
  const status = h("p.hint", { role: "status" }, "Loading…");
  const problem = h("div");
  const questions = questionsPanel("Waiting for an answer", {
    everywhere: true,
    most: QUESTIONS,
    answered,
  });
  const suggestions = h("datalist", { id: "tasks" });
  const task = h("input", {
    type: "search",
    list: "tasks",
    value: query.task,
    "aria-label": "Task",
    placeholder: "Any task",
    change: filter,
  });
  const phase = h(
    "select",
    { "aria-label": "Phase", change: filter },
    PHASES.map(([value, label]) => h("option", { value, selected: value === query.phase }, label)),
  );
  const everyone = h("input", {
    type: "checkbox",
    checked: Boolean(query.everyone),
    change: filter,
  });
  const whose = h("label.toggle", { hidden: true }, everyone, "Everyone’s");
  const older = h("a.button", { hidden: true }, "Older runs");
  view.append(
    h(
      "div.title",
      h("h1", { tabindex: -1 }, "Runs"),
      h("form.filters", whose, task, suggestions, phase),
    ),
    questions.node,
    problem,
    list,
    status,
    h("div", older),
  );

  function filter() {
    location.hash = link("runs", {
      task: task.value.trim(),
      phase: phase.value,
      everyone: everyone.checked ? "yes" : "",
    });
  }

  let drawn;
  function draw(runs, mine) {
    const text = stringify(runs);
    if (drawn === text) return;
    drawn = text;
    const focused = document.activeElement.closest("a")?.hash;
    list.replaceChildren(...runs.map(item));
    const tasks = new Set(runs.flatMap((run) => run.task ?? []));
    suggestions.replaceChildren(...[...tasks].map((value) => h("option", { value })));
    [...list.querySelectorAll("a")].find((each) => each.hash === focused)?.focus();
    const filtered = query.task || query.phase || query.before;
    status.replaceChildren(
      ...(runs.length ? [] : filtered ? ["No matching runs."] : nothing(mine)),
    );
    const before = runs.length === PAGE && runs.at(-1).started_at;
    older.hidden = !before;
    older.href = link("runs", { ...query, before });
  }

  let wait = LATER;
  async function load() {
    const phases = PHASES.find(([value]) => value === query.phase)?.[2];
    // Flyte can't list the runs of nobody.
    const known = (await session.me?.catch(() => null))?.subject;
    whose.hidden = !known;
    const subject = query.everyone ? null : known;
    const asked = {
      subject,
      task: query.task,
      phase: phases,
      before: query.before,
      limit: PAGE,
    };
    const [runs, asking] = await Promise.all([get("runs", signal, asked), loadAsking(signal)]);
    draw(runs, subject);
    wait = runs.some((run) => !hasEnded(run) && known && run.executed_by?.subject === known)
      ? SOON
      : LATER;
    await loadQuestions(asking);
  }

  let [before, due, news] = ["", 0, 0];
  function answered() {
    news = Date.now() + NEWS;
  }
  async function loadQuestions(asking) {
    const now = asking.map((run) => run.name).join(" ");
    if (now === before && (!now || Date.now() < due) && Date.now() > news) return;
    const conditions = now ? await get("conditions", signal, { limit: QUESTIONS }) : [];
    questions.draw(conditions);
    before = now;
    due = Date.now() + EACH * (1 + asking.length + conditions.length);
  }
  refresh(
    load,
    () => wait,
    signal,
    (error) => {
      if (error) status.textContent = "";
      problem.replaceChildren(error ? problemBox(error) : "");
    },
  );
}

function item(run) {
  return h(
    "li",
    phaseBadge(run.phase),
    h("a.main", { href: link(`runs/${part(run.name)}`) }, run.task ? taskName(run.task) : "A run"),
    h("code.about", name(run.name)),
    h("span.by", person(run.executed_by)),
    h("span.at", run.started_at ? when(run.started_at) : "not started"),
    h("span.took", runDuration(run)),
  );
}

const nothing = (mine) => [
  mine ? "You have run nothing here yet. " : "Nothing has run here yet. ",
  h("a", { href: link("tasks") }, "Choose a task"),
  " and run it.",
];
