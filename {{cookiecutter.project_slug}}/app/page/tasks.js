// The tasks that the user may see, and a form to run one of them.
import { get, part, post, stringify, upload } from "./api.js";
import { button, h, name, taskName } from "./dom.js";
import { schemaForm } from "./form.js";
import { link, problemBox } from "./session.js";

const MOST = 1000; // tasks that the app lists

export async function tasksView(view, { signal }) {
  const list = h("ul.rows");
  const status = h("p.hint", { role: "status" }, "Loading…");
  const search = h("input", {
    type: "search",
    "aria-label": "Search tasks",
    placeholder: "Search",
    autocomplete: "off",
    input: show,
  });
  view.append(h("div.title", h("h1", { tabindex: -1 }, "Tasks"), search), list, status);
  let tasks;
  function show() {
    if (!tasks) return; // the search is used as soon as they are loaded
    const words = search.value.toLowerCase().split(/\s+/);
    const fits = (task) =>
      words.every((word) => `${task.name} ${task.description}`.toLowerCase().includes(word));
    const found = tasks.filter(fits);
    list.replaceChildren(...found.map(item));
    const none = [
      "No tasks are deployed here yet. Deploy some with ",
      h("code", "flyte deploy"),
      ".",
    ];
    const most = tasks.length === MOST && `Only ${MOST} tasks are listed here.`;
    status.replaceChildren(
      ...(tasks.length ? [!found.length && "No matching tasks.", most].filter(Boolean) : none),
    );
  }
  tasks = await get("tasks", signal, { limit: MOST }).finally(() => status.replaceChildren());
  tasks.sort((a, b) => a.name.localeCompare(b.name));
  show();
}

const item = (task) =>
  h(
    "li",
    h("a.main", { href: link(`tasks/${part(task.name)}`) }, taskName(task.name)),
    task.description && h("span.about", { dir: "auto" }, task.description),
  );

export async function taskView(view, { subject, query, signal }) {
  const path = `tasks/${part(subject)}`;
  const origin = `runs/${part(query.from)}`;
  view.append(h("h1", { tabindex: -1 }, taskName(subject)));
  const [task, before] = await Promise.all([
    get(path, signal, { version: query.version }),
    query.from &&
      Promise.all([get(origin, signal), get(`${origin}/io`, signal)]).then(
        (both) => Object.assign({}, ...both),
        () => ({}),
      ),
  ]);

  const fields = schemaForm(task.inputs, before?.inputs, "Inputs", (file, until, progress) =>
    upload(file, AbortSignal.any([signal, until]), progress),
  );
  const problem = h("div");
  const run = button("Run", submit, { class: "primary" });
  view.append(
    h("p.lead", { dir: "auto" }, task.description),
    h(
      "p.hint",
      "Version ",
      h("code", name(task.version)),
      " · ",
      h("a", { href: link("runs", { task: subject }) }, "Its runs"),
    ),
    before
      ? h(
          "p.notice.line",
          before.inputs ? "Filled in from " : "No inputs found for ",
          h("a", { href: link(origin) }, name(query.from)),
          before.inputs && ". Change what you like.",
        )
      : "",
    h(
      "form.card",
      { keydown: enter },
      fields.node,
      problem,
      h(
        "div.actions",
        run,
        h("span.hint", "Enter runs the task; in a text, Shift+Enter starts a new line."),
      ),
    ),
  );

  function enter(event) {
    const { target } = event;
    const runs =
      target.matches("input") || (target.matches("textarea") && !/\n/.test(target.value));
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.repeat || !runs)
      return;
    event.preventDefault();
    submit();
  }

  async function submit() {
    problem.replaceChildren();
    const inputs = fields.read();
    if (!inputs || run.disabled) return;
    run.disabled = true;
    try {
      // The URL may contain a run of another task.
      const again = before?.task === subject && before.version === task.version;
      const made = again
        ? await rerun(inputs)
        : await post(`${path}/runs`, { inputs }, { version: task.version });
      location.hash = link(`runs/${part(made.name)}`);
    } catch (error) {
      tell(error);
    } finally {
      run.disabled = false;
    }
  }

  /** Run it again with the changed inputs: the others may have values that no form can hold. */
  function rerun(inputs) {
    const changed = Object.entries(inputs).filter(
      ([key, value]) =>
        !Object.hasOwn(before.inputs, key) || stringify(value) !== stringify(before.inputs[key]),
    );
    return post(`${origin}/rerun`, { inputs: Object.fromEntries(changed) });
  }

  function tell(error) {
    const errors = (error.errors ?? []).map(({ location, detail }) => ({
      detail,
      location: location.slice(location.indexOf("inputs") + 1),
    }));
    const rest = fields.fail(errors);
    if (error.errors && !rest.length) return;
    const detail =
      rest.map((each) => [...each.location, each.detail].join(": ")).join("\n") || error.detail;
    problem.replaceChildren(
      problemBox(Object.assign(error, { detail })),
      error.status && error.status < 500
        ? ""
        : h(
            "p.hint",
            "The run may have started anyway. See ",
            h("a", { href: link("runs", { task: subject }) }, "its runs"),
            " before you try again.",
          ),
    );
  }
}
