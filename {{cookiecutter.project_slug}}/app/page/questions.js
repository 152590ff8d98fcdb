// What runs ask (Flyte's conditions), and the controls to answer. Prompts are other people's text.
import { Problem, get, part, post, stringify } from "./api.js";
import { button, card, h, name, newId, phaseWord, taskName, when } from "./dom.js";
import { schemaForm } from "./form.js";
import { link, person, problemBox, session } from "./session.js";

const MOST = 100; // questions that are shown
const isOpen = ({ phase, value }) => phase === "paused" && value === null;
const time = ({ asked_at: at }) => Date.parse(at) || 0;

/** A section with questions: those of one run or, with `everywhere`, all that wait. */
export function questionsPanel(title, scope, { everywhere, most, answered } = {}) {
  // By run and action: what is shown, its element, and whether it is answered from here
  const shown = new Map();
  const list = h("div.stack");
  const news = h("p.unseen", { role: "status", tabindex: -1 });
  const heading = h("span", title);
  const node = card(heading, news, list);
  node.hidden = true;

  /** Show these, or the latest of them, which it returns; `over` says that their run has ended. */
  function draw(conditions, over = false) {
    const latest = conditions
      .toSorted((a, b) => isOpen(a) - isOpen(b) || time(a) - time(b))
      .slice(-MOST);
    const asked = new Map(latest.map((each) => [`${each.run} ${each.action}`, each]));
    for (const [key, { element, here }] of shown) {
      if (asked.has(key) || here || element.contains(document.activeElement)) continue;
      element.remove();
      shown.delete(key);
    }
    for (const [key, condition] of asked) {
      const before = shown.get(key);
      const text = stringify([condition, over]);
      if (before?.text === text || (before?.here && isOpen(condition) && !over)) continue;
      const lost = before?.element.contains(document.activeElement);
      if (isOpen(condition) && !before)
        news.replaceChildren(
          name(condition.run),
          " asks: ",
          name(promptOf(condition).slice(0, 200)),
        );
      if (lost) news.replaceChildren(...resultOf(condition));
      show(key, condition, { over, text });
      if (lost) news.focus();
    }
    count();
    return latest;
  }

  function count() {
    node.hidden = !shown.size;
    const open = [...shown.values()].filter(({ condition, here }) => isOpen(condition) && !here);
    const runs = (of) => new Set(of.map(({ condition }) => condition.run));
    const answered = runs([...shown.values()]).difference(runs(open));
    // Before a request tells:
    session.asking = session.asking.filter((run) => !answered.has(run.name));
    if (everywhere)
      heading.textContent = `${title} (${open.length}${open.length < most ? "" : "+"})`;
  }

  function show(key, condition, { over, here, text }) {
    const element = question(
      condition,
      { scope, over, here, everywhere },
      {
        sending(is) {
          shown.get(key).here = is;
        },
        sent(made) {
          news.replaceChildren(...resultOf(made));
          show(key, made, { over, here: true, text });
          news.focus();
          count();
          answered?.();
        },
        whole(found) {
          show(key, found, { over, text });
          shown.get(key).element.querySelector(".told").focus();
        },
      },
    );
    const before = shown.get(key)?.element;
    if (before) before.replaceWith(element);
    else list.prepend(element);
    shown.set(key, { text, condition, element, here });
  }

  return { node, draw };
}

const promptOf = ({ prompt, name: called }) => prompt || called;

/** Say in one line how a question ended, and through whom. */
function resultOf(condition) {
  const { phase, value, answered_by: by } = condition;
  if (isOpen(condition)) return ["Your answer has been sent; Flyte has not recorded it yet"];
  if (value === null) return [`${phaseWord(phase)} without an answer`];
  const words =
    typeof value === "boolean"
      ? value
        ? "Yes"
        : "No"
      : typeof value === "string"
        ? `“${value}”`
        : stringify(value);
  return [person(by, "Somebody"), " answered: ", h("strong", name(words))];
}

function question(condition, { scope, over, here, everywhere }, { sending, sent, whole }) {
  const id = newId();
  const problem = h("div");
  const of = session.asking.find((run) => run.name === condition.run);
  const path = `runs/${part(condition.run)}/conditions`;
  const about = [
    condition.description && h("span", { dir: "auto" }, condition.description),
    everywhere &&
      h(
        "span",
        "Run ",
        h("a", { href: link(`runs/${part(condition.run)}`) }, name(condition.run)),
        of && [" of ", person(of.executed_by, "somebody"), of.task && [", ", taskName(of.task)]],
      ),
    condition.asked_at && h("span", "Asked ", when(condition.asked_at)),
    condition.answered_at && h("span", "Answered ", when(condition.answered_at)),
  ];
  async function send(value) {
    problem.replaceChildren();
    const focused = document.activeElement;
    element.inert = true; // one answer at a time
    sending(true);
    try {
      sent(await post(`${path}/${part(condition.action)}`, scope, { value }));
    } catch (error) {
      problem.replaceChildren(problemBox(error));
      element.inert = false;
      focused.focus();
      sending(false);
    }
  }
  /** Show all of a prompt that was cut off: nobody answers what they could not read. */
  async function load() {
    try {
      const all = await get(path, { ...scope, limit: 100 }); // what waits comes first
      const found = all.find(({ action }) => action === condition.action);
      if (!found) throw new Problem({ status: 404 });
      whole(found);
    } catch (error) {
      problem.replaceChildren(problemBox(error));
    }
  }
  const element = h(
    "div.question",
    { role: "group", "aria-labelledby": id },
    h("p.told", { id, dir: "auto", tabindex: 0 }, promptOf(condition)),
    h(
      "p.hint.line",
      about.filter(Boolean).flatMap((each, index) => (index ? [" · ", each] : [each])),
    ),
    !isOpen(condition) || here
      ? h("p.text", resultOf(condition))
      : over
        ? h("p.text", h("strong", "The run has ended without an answer"))
        : condition.prompt_is_cut
          ? h("div.actions", button("Show the whole question", load))
          : controls(condition, send),
    problem,
  );
  return element;
}

function controls({ type }, send) {
  if (!type) return h("p.hint", "Its type is unknown here, so it can’t be answered on this page.");
  if (type === "boolean") {
    return h(
      "div.actions",
      button("Yes", () => send(true), { class: "primary" }),
      button("No", () => send(false)),
    );
  }
  const fields = schemaForm(
    { properties: { Answer: { type } }, type: "object", required: ["Answer"] },
    {},
    "",
  );
  return h(
    "form.stack",
    {
      submit() {
        const given = fields.read();
        if (given) send(given.Answer);
      },
    },
    fields.node,
    h("div.actions", h("button.primary", { type: "submit" }, "Send the answer")),
  );
}
