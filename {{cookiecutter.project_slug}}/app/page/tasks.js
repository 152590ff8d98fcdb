// The tasks that one may see, and running one of them.
import { get, part, post } from "./api.js";
import { button, h, name, newId, taskName } from "./dom.js";
import { schemaForm } from "./form.js";
import { link, needsRights, problemBox, refused, session } from "./session.js";

const PAGE = 50;
const TYPING = 250; // milliseconds without a key, after which a search starts

export async function tasksView(view, { signal }) {
  const list = h("ul.rows");
  const status = h("p.hint", { role: "status" });
  const problem = h("div");
  const more = button("Show more", () => load(next), { hidden: true });
  const search = h("input", {
    type: "search", "aria-label": "Search tasks", placeholder: "Search", autocomplete: "off", input() {
      clearTimeout(timer);
      timer = setTimeout(load, TYPING);
    },
  });
  let timer;
  let next; // the token of the page after those that are shown
  let turn = 0;
  view.append(h("div.title", h("h1", { tabindex: -1 }, "Tasks"), search), problem, list, status, more);

  async function load(token) {
    const mine = ++turn;
    const words = search.value.trim();
    status.textContent = "Loading…";
    try {
      const page = await get("tasks", { ...session.scope, search: words || undefined, limit: PAGE, token }, signal);
      if (mine !== turn) return; // an answer to what is no longer asked
      if (!token) list.replaceChildren();
      list.append(...page.tasks.map(item));
      next = page.next_token;
      more.hidden = !next;
      problem.replaceChildren();
      status.replaceChildren(...(list.hasChildNodes() ? [] : words ? ["There is no such task."] : nothing()));
    } catch (error) {
      if (signal.aborted || mine !== turn) return;
      status.textContent = "";
      problem.replaceChildren(problemBox(error, () => load(token)));
    }
  }
  await load();
}

const item = (task) => h("li",
  h("a.main", { href: link(`tasks/${part(task.name)}`) }, taskName(task.name)),
  task.description && h("span.about", { dir: "auto" }, task.description),
  h("code.version", name(task.version)));

const nothing = () => ["No task is deployed here yet: ", h("code", "flyte deploy"), " does that."];

export async function taskView(view, { subject, query, signal }) {
  const { scope } = session;
  const path = `tasks/${part(subject)}`;
  view.append(h("h1", { tabindex: -1 }, taskName(subject)));
  const [task, before] = await Promise.all([
    get(path, { ...scope, version: query.version }, signal),
    query.from && get(`runs/${part(query.from)}/io`, scope, signal).catch(() => ({})),
  ]);

  const fields = schemaForm(task.inputs, before?.inputs);
  const problem = h("div");
  const run = button("Run", submit, { id: newId(), class: "primary" });
  view.append(
    h("p.lead", { dir: "auto" }, task.description),
    h("p.hint", "Version ", h("code", name(task.version)), " · ", h("a", { href: link("runs", { task: subject }) }, "Its runs")),
    before ? h("p.notice", before.inputs ? "Filled in from " : "Nothing is known of ",
      h("a", { href: link(`runs/${part(query.from)}`) }, name(query.from)), before.inputs && ". Change what you like.") : "",
    h("form.card",
      fields.node, problem, h("div.actions", run), needsRights(run, signal)));

  // The run is named here, so that asking again when no answer came can't start a second one.
  let runName = newRunName();
  let unanswered = false;

  async function submit() {
    problem.replaceChildren();
    const inputs = fields.read();
    if (!inputs || run.disabled) return;
    run.disabled = true;
    try {
      await post(`${path}/runs`, { ...scope, version: task.version }, { inputs, name: runName });
      location.hash = link(`runs/${runName}`);
    } catch (error) {
      if (unanswered && error.status === 409) location.hash = link(`runs/${runName}`);
      unanswered = error.status === 0 || error.status >= 500;
      if (!unanswered) runName = newRunName();
      refused(error);
      tell(error);
    } finally {
      run.disabled = session.mayRun === false;
    }
  }

  function tell(error) {
    const rest = fields.fail((error.errors ?? []).map((each) => ({ ...each, location: each.location.slice(2) })));
    if (error.errors && !rest.length) return;
    const detail = rest.map((each) => [...each.location, each.detail].join(": ")).join("\n") || error.detail;
    problem.replaceChildren(problemBox(Object.assign(error, { detail })));
  }
}

const newRunName = () => `r${Date.now().toString(36)}${Math.random().toString(36).slice(2, 12)}`;
