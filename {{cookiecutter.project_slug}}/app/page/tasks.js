// The tasks that the user may see, and a form to run one of them.
import { get, part, post, stringify, upload } from "./api.js";
import { button, h, name, optional, update, updateList } from "./dom.js";
import { schemaForm } from "./form.js";
import { taskName } from "./names.js";
import { change, link, problemBox } from "./session.js";

const MOST = 1000; // tasks that the app lists
const ENTER = "Enter runs the task; in a text, Shift+Enter starts a new line.";

export async function tasksView(view, { signal }) {
  const list = h("ul.rows");
  const status = h("p.hint.optional", { role: "status" }, "Loading…");
  const search = h("input", {
    type: "search",
    "aria-label": "Search tasks",
    placeholder: "Search",
    autocomplete: "off",
    input: () => draw(),
  });
  let tasks; // the search is used as soon as they are loaded
  function draw() {
    const found = tasks?.filter(matching(search.value)) ?? [];
    updateList(list, found, item);
    update(status, tasks && statusOf(tasks, found));
  }
  view.append(h("div.title", h("h1", { tabindex: -1 }, "Tasks"), search), list, status);
  const all = await get("tasks", signal, { limit: MOST }).finally(() => draw());
  tasks = all.sort((a, b) => a.name.localeCompare(b.name));
  draw();
}

function matching(text) {
  const words = text.toLowerCase().split(/\s+/);
  return (task) =>
    words.every((word) => `${task.name} ${task.description}`.toLowerCase().includes(word));
}

function statusOf(tasks, found) {
  if (!tasks.length)
    return ["No tasks are deployed here yet. Deploy some with ", h("code", "flyte deploy"), "."];
  const most = tasks.length === MOST && `Only ${MOST} tasks are listed here.`;
  return [!found.length && "No matching tasks.", most];
}

const item = (task) =>
  h(
    "li",
    h("a.row-link", { href: link(`tasks/${part(task.name)}`) }, taskName(task.name)),
    task.description && h("span.row-about", { dir: "auto" }, task.description),
  );

export async function taskView(view, { subject, query, signal }) {
  const path = `tasks/${part(subject)}`;
  view.append(h("h1", { tabindex: -1 }, taskName(subject)));
  const [task, before] = await Promise.all([
    get(path, signal, { version: query.version }),
    query.from && loadRun(query.from, signal),
  ]);
  const fields = schemaForm(task.inputs, before?.inputs, "Inputs", (file, until, progress) =>
    change(() => upload(file, AbortSignal.any([signal, until]), progress)),
  );
  const problem = optional();
  const run = button("Run", submit, { class: "primary" });
  let isSending = false;
  view.append(
    h("p.lead.optional", { dir: "auto" }, task.description),
    taskFacts(task, before, query.from),
    h(
      "form.card",
      { keydown: enter },
      fields.node,
      problem,
      h("div.actions", run, h("span.hint", ENTER)),
    ),
  );

  function enter(event) {
    const { key, shiftKey, isComposing, repeat, target } = event;
    const isOneLine = target.matches("textarea") && !/\n/.test(target.value);
    if (key !== "Enter" || shiftKey || isComposing || repeat) return;
    if (!isOneLine && !target.matches("input")) return;
    event.preventDefault();
    submit();
  }

  async function submit() {
    update(problem);
    const inputs = fields.read();
    if (!inputs || isSending) return;
    isSending = true;
    try {
      const made = await change(() => start(task, inputs, before, query.from));
      location.hash = link(`runs/${part(made.name)}`);
    } catch (error) {
      update(problem, refusal(error, fields, task));
    } finally {
      isSending = false;
    }
  }
}

/** Load a run with its inputs, if that is possible. */
const loadRun = (origin, signal) =>
  Promise.all([get(`runs/${part(origin)}`, signal), get(`runs/${part(origin)}/io`, signal)]).then(
    (both) => Object.assign({}, ...both),
    () => ({}),
  );

function taskFacts(task, before, origin) {
  const runs = h("a", { href: link("runs", { task: task.name }) }, "Its runs");
  const run = h("a", { href: link(`runs/${part(origin)}`) }, name(origin));
  const from = before?.inputs
    ? ["Filled in from ", run, ". Change what you like."]
    : ["No inputs found for ", run];
  return h(
    "div.stack",
    h("p.hint", "Version ", h("code", name(task.version)), " · ", runs),
    before && h("p.notice", h("span", from)),
  );
}

/** Start a task or, with changed inputs, the run from which the form was filled in. */
function start(task, inputs, before, origin) {
  // The URL may contain a run of another task.
  if (before?.task !== task.name || before.version !== task.version)
    return post(`tasks/${part(task.name)}/runs`, { inputs }, { version: task.version });
  // The others may have values that no form can hold.
  const changed = Object.entries(inputs).filter(
    ([key, value]) =>
      !Object.hasOwn(before.inputs, key) || stringify(value) !== stringify(before.inputs[key]),
  );
  return post(`runs/${part(origin)}/rerun`, { inputs: Object.fromEntries(changed) });
}

/** Show why a run was not started: at its fields, and what is left below them. */
function refusal(error, fields, task) {
  const errors = (error.errors ?? []).map(({ location, detail }) => ({
    detail,
    location: location.slice(location.indexOf("inputs") + 1),
  }));
  const rest = fields.fail(errors);
  if (error.errors && !rest.length) return null;
  const lines = rest.map((each) => [...each.location, each.detail].join(": "));
  const box = problemBox(Object.assign(error, { detail: lines.join("\n") || error.detail }));
  const mayHaveStarted = !error.unsent && !(error.status && error.status < 500);
  const runs = h("a", { href: link("runs", { task: task.name }) }, "its runs");
  return [
    box,
    mayHaveStarted &&
      h("p.hint", "The run may have started anyway. See ", runs, " before you try again."),
  ];
}
