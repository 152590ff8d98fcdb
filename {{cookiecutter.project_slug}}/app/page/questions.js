// What runs ask (Flyte's conditions), and the controls to answer it. Prompts are other people's text.
import { get, part, pause, post, stringify } from "./api.js";
import { asText, button, card, h, name, newId, person, phaseWord, when } from "./dom.js";
import { schemaForm } from "./form.js";
import { link, problemBox } from "./session.js";

const EVERY = 3_000; // milliseconds between requests: no stream reports that a run pauses
const WORDS = { true: "Yes", false: "No" };

/** A section with the questions of a run, also the answered ones; without a run, with all that wait. */
export function questionsPanel(run, scope, signal, ended = () => false) {
  const title = run ? "Questions" : "Waiting for an answer";
  const path = run ? `runs/${part(run)}/conditions` : "conditions";
  const shown = new Map(); // by run and action: what is shown, its element, and whether it was answered here
  const list = h("div.stack");
  const news = h("p.unseen", { role: "status", tabindex: -1 });
  const trouble = h("div");
  const node = card(title, news, list, trouble);
  node.hidden = true;

  function draw(conditions) {
    const asked = new Map(conditions.map((each) => [`${each.run} ${each.action}`, each]));
    for (const [key, { element, here }] of shown) {
      if (asked.has(key) || here || element.contains(document.activeElement)) continue;
      element.remove();
      shown.delete(key);
    }
    for (const [key, condition] of asked) {
      const before = shown.get(key);
      if (before?.here || before?.text === stringify(condition)) continue;
      if (isOpen(condition) && !before) news.textContent = `${condition.run} asks: ${promptOf(condition).slice(0, 200)}`;
      show(key, condition);
    }
    node.hidden = !shown.size;
    if (!run) node.querySelector("h2").textContent = `${title} (${asked.size})`;
  }

  function show(key, condition, here = false) {
    const answered = (made) => {
      news.textContent = resultOf(made);
      show(key, made, true);
      news.focus();
    };
    const element = question(condition, scope, answered, !run);
    const before = shown.get(key)?.element;
    if (before) before.replaceWith(element);
    else list.append(element);
    shown.set(key, { text: stringify(condition), element, here });
  }

  async function follow() {
    for (let last = false; !signal.aborted && !last; await pause(EVERY, signal)) {
      last = ended();
      try {
        if (!document.hidden || last) draw(await get(path, scope, signal));
        trouble.replaceChildren();
      } catch (problem) {
        if (signal.aborted || problem.status === 403) return;
        trouble.replaceChildren(node.hidden || problem.status === 401 ? "" : problemBox(problem));
      }
    }
  }
  follow();
  return node;
}

const isOpen = ({ phase, value }) => phase === "paused" && value === null;
const promptOf = ({ prompt, name: called }) => prompt || called;

/** Say in one line how a question ended, and through whom. */
function resultOf({ phase, value, answered_by: by }) {
  if (value === null) return `${phaseWord(phase)} without an answer`;
  return `${person(by, "Somebody")} answered: ${WORDS[value] ?? asText(value)}`;
}

function question(condition, scope, answered, withRun) {
  const id = newId();
  const problem = h("div");
  const about = [
    condition.description && h("span", { dir: "auto" }, condition.description),
    withRun && h("span", "Run ", h("a", { href: link(`runs/${part(condition.run)}`) }, name(condition.run))),
    condition.asked_at && h("span", "Asked ", when(condition.asked_at)),
    condition.answered_at && h("span", "Answered ", when(condition.answered_at)),
  ];
  async function send(value) {
    problem.replaceChildren();
    const focused = document.activeElement;
    element.inert = true; // one answer at a time
    try {
      const path = `runs/${part(condition.run)}/conditions/${part(condition.action)}`;
      answered(await post(path, scope, { value }));
    } catch (error) {
      problem.replaceChildren(problemBox(error));
      element.inert = false;
      focused.focus();
    }
  }
  const element = h("div.question", { role: "group", "aria-labelledby": id },
    h("p.told", { id, dir: "auto", tabindex: 0 }, promptOf(condition)),
    h("p.hint.line", about.filter(Boolean).flatMap((each, index) => (index ? [" · ", each] : [each]))),
    isOpen(condition)
      ? controls(condition, send) : h("p.text", { dir: "auto" }, h("strong", resultOf(condition))), problem);
  return element;
}

function controls({ type }, send) {
  if (!type) return h("p.hint", "Its type is unknown here, so it can’t be answered on this page.");
  if (type === "boolean") {
    return h("div.actions", button("Yes", () => send(true), { class: "primary" }), button("No", () => send(false)));
  }
  const fields = schemaForm({ properties: { Answer: { type } }, type: "object", required: ["Answer"] }, {}, "");
  return h("form", { submit() {
    const given = fields.read();
    if (given) send(given.Answer);
  } }, fields.node, h("div.actions", h("button.primary", { type: "submit" }, "Send the answer")));
}
