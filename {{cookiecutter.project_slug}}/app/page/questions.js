// What runs ask (Flyte's conditions), and the controls to answer it. Prompts are other people's text.
import { get, part, post, refresh, stringify } from "./api.js";
import { asText, button, card, h, name, newId, person, phaseWord, when } from "./dom.js";
import { schemaForm } from "./form.js";
import { link, problemBox } from "./session.js";

const EVERY = 3_000; // milliseconds between requests: no stream reports that a run pauses
const MOST = 50; // questions that are shown
const WORDS = { true: "Yes", false: "No" };

/** A section with the questions of a run, also the answered ones; without a run, with all that wait. */
export function questionsPanel(run, scope, signal, ended = () => false) {
  const title = run ? "Questions" : "Waiting for an answer";
  const path = run ? `runs/${part(run)}/conditions` : "conditions";
  const shown = new Map(); // by run and action: what is shown, its element, and whether it is answered from here
  const list = h("div.stack");
  const news = h("p.unseen", { role: "status", tabindex: -1 });
  const trouble = h("div");
  const node = card(title, news, list, trouble);
  node.hidden = true;

  function draw(conditions) {
    const over = ended();
    const asked = new Map(conditions.map((each) => [`${each.run} ${each.action}`, each]));
    for (const [key, { element, here }] of shown) {
      if (asked.has(key) || here || element.contains(document.activeElement)) continue;
      element.remove();
      shown.delete(key);
    }
    const place = shown.size ? "prepend" : "append"; // they come with the newest first
    for (const [key, condition] of asked) {
      const before = shown.get(key);
      if (before?.text === stringify([condition, over]) || (before?.here && !condition.answered_by)) continue;
      const open = condition.phase === "paused" && condition.value === null;
      const lost = before?.element.contains(document.activeElement);
      if (open && !before) news.textContent = `${condition.run} asks: ${promptOf(condition).slice(0, 200)}`;
      if (lost) news.textContent = resultOf(condition);
      show(key, condition, { over, place });
      if (lost) news.focus();
    }
    node.hidden = !shown.size;
    if (!run) node.querySelector("h2").textContent = `${title} (${asked.size}${asked.size < MOST ? "" : "+"})`;
  }

  function show(key, condition, { over, place, here }) {
    const element = question(condition, { scope, over, withRun: !run }, {
      sending: (is) => (shown.get(key).here = is),
      answered(made) {
        news.textContent = resultOf(made);
        show(key, made, { over, here: true });
        news.focus();
      },
    });
    const before = shown.get(key)?.element;
    if (before) before.replaceWith(element);
    else list[place](element);
    shown.set(key, { text: stringify([condition, over]), element, here });
  }

  const load = async () => draw(await get(path, { ...scope, limit: MOST }, signal));
  refresh(load, ended, () => EVERY, signal, (problem) => {
    trouble.replaceChildren(problem && !node.hidden && problem.status !== 401 ? problemBox(problem) : "");
  });
  return node;
}

const promptOf = ({ prompt, name: called }) => prompt || called;

/** Say in one line how a question ended, and through whom. */
function resultOf({ phase, value, answered_by: by }) {
  if (value === null) return `${phaseWord(phase)} without an answer`;
  return `${person(by, "Somebody")} answered: ${WORDS[value] ?? asText(value)}`;
}

function question(condition, { scope, over, withRun }, { sending, answered }) {
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
    sending(true);
    try {
      const path = `runs/${part(condition.run)}/conditions/${part(condition.action)}`;
      answered(await post(path, scope, { value }));
    } catch (error) {
      problem.replaceChildren(problemBox(error));
      element.inert = false;
      focused.focus();
      sending(false);
    }
  }
  const waits = condition.phase === "paused" && condition.value === null;
  const result = waits ? "The run has ended without an answer" : resultOf(condition);
  const element = h("div.question", { role: "group", "aria-labelledby": id },
    h("p.told", { id, dir: "auto", tabindex: 0 }, promptOf(condition)),
    h("p.hint.line", about.filter(Boolean).flatMap((each, index) => (index ? [" · ", each] : [each]))),
    waits && !over ? controls(condition, send) : h("p.text", { dir: "auto" }, h("strong", result)), problem);
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
