// Questions of runs (Flyte's conditions), and the controls to answer. Prompts are others' text.
import { part, post, stringify } from "./api.js";
import { button, card, h, name, newId, optional, update } from "./dom.js";
import { schemaForm } from "./form.js";
import { person, personAndSubject, taskName } from "./names.js";
import { phaseWord, when } from "./phases.js";
import { change, link, problemBox, session } from "./session.js";
import { stillness } from "./still.js";

const MOST = 100; // questions that wait are shown at once
const MORE = `The newest ${MOST} are shown. The others follow as these are answered.`;
const GONE = "This no longer waits for an answer";
const OVER = "The run has ended without an answer";
const isOpen = ({ phase, value }) => phase === "paused" && value === null;
const time = ({ asked_at: at }) => Date.parse(at) || 0;
const keyOf = ({ run, action }) => `${run} ${action}`;

/**
 * A section with questions: those of one run or, with `everywhere`, all that wait.
 * @param {string} title
 * @param { {everywhere?: boolean, most?: number, answered?: () => void}} [options]
 */
export function questionsPanel(title, { everywhere, most, answered } = {}) {
  const shown = new Map(); // questions by run and action
  const later = new Map(); // conditions that wait, but have no place yet
  const list = h("div.stack");
  const news = h("p.unseen", { role: "status", tabindex: -1 });
  const note = h("p.hint.optional");
  const heading = h("span", title);
  const node = card("questions", heading, news, list, note);
  const still = stillness();

  /**
   * Show conditions that are new or have changed; with `everywhere`, they are all that wait, unless
   * there are `most`. New ones go below, and none is taken away: people click on what they have
   * read. `over` says that their run has ended.
   */
  function draw(conditions, over = false) {
    const given = new Map(conditions.map((each) => [keyOf(each), each]));
    const isWhole = everywhere && conditions.length < most;
    for (const [key, question] of shown) {
      const gone = isWhole && !given.has(key) ? GONE : "";
      question.take(given.get(key), over ? OVER : gone);
    }
    for (const [key, condition] of given) if (!shown.has(key)) later.set(key, condition);
    for (const condition of admitted(later, shown, over)) {
      const options = { ended: over ? OVER : "", everywhere, still, sent };
      shown.set(keyOf(condition), questionBox(condition, options));
      const prompt = promptOf(condition).slice(0, 200);
      if (isOpen(condition) && !over) update(news, name(condition.run), " asks: ", name(prompt));
    }
    redraw();
  }

  function sent(condition) {
    update(news, resultOf(condition));
    redraw();
    answered?.();
  }

  function redraw() {
    const all = [...shown.values()];
    const active = all.find((each) => each.node.contains(document.activeElement));
    if (active && !active.waits()) update(news, active.result());
    for (const each of all) each.draw();
    update(list, ...all.map((each) => each.node));
    update(note, later.size > 0 && MORE);
    node.hidden = !shown.size;
    const open = all.filter((each) => each.waits());
    const runs = (of) => new Set(of.map(({ run }) => run));
    const done = runs(all).difference(runs(open));
    // Before a request tells:
    session.asking = session.asking.filter((run) => !done.has(run.name));
    if (everywhere) update(heading, `${title} (${open.length}${open.length < most ? "" : "+"})`);
  }

  node.hidden = true;
  return { node, draw };
}

/** Take those that get a place, the newest first, from those that wait for one. */
function admitted(later, shown, over) {
  const newestFirst = [...later].sort(
    ([, a], [, b]) => Number(isOpen(b)) - Number(isOpen(a)) || time(b) - time(a),
  );
  let left = MOST - [...shown.values()].filter((each) => each.waits()).length;
  const some = newestFirst.filter(([, each]) => !isOpen(each) || over || left-- > 0);
  for (const [key] of some) later.delete(key);
  return some.map(([, condition]) => condition);
}

const promptOf = ({ prompt, name: called }) => prompt || called;

/** Say in one line how a question ended, and through whom. */
function resultOf(condition) {
  const { phase, value, answered_by: by } = condition;
  if (isOpen(condition)) return ["Your answer has been sent; Flyte has not recorded it yet"];
  if (value === null) return [`${phaseWord(phase)} without an answer`];
  const words = typeof value === "string" ? `“${value}”` : stringify(value);
  const said = typeof value === "boolean" ? (value ? "Yes" : "No") : words;
  return [personAndSubject(by), " answered: ", h("strong", name(said))];
}

/** One question. `take` gets its condition as it is now; `sent` is called after an answer. */
function questionBox(condition, { ended, everywhere, still, sent }) {
  const id = newId();
  const node = h("div.question", { role: "group", "aria-labelledby": id });
  // `here` says that it is answered from here
  const state = { condition, ended, here: false, problem: null };
  const waits = () => isOpen(state.condition) && !state.ended && !state.here;
  const result = () =>
    isOpen(state.condition) && state.ended ? [state.ended] : resultOf(state.condition);
  const controls = waits() && answerControls(condition, send, still);

  async function send(value) {
    if (state.sending) return; // one answer at a time
    Object.assign(state, { problem: null, sending: true });
    draw();
    const { run, action } = state.condition;
    const path = `runs/${part(run)}/conditions/${part(action)}`;
    try {
      state.condition = await change(() => post(path, { value }));
      state.here = true;
      sent(state.condition);
    } catch (problem) {
      state.problem = problem;
    }
    state.sending = false;
    draw();
  }

  function draw() {
    const { condition: now, problem } = state;
    update(
      node,
      h("p.question-prompt.wrapped.small", { id, dir: "auto", tabindex: 0 }, promptOf(now)),
      now.description && h("p.quote.small", { dir: "auto", tabindex: 0 }, now.description),
      h("p.hint", { "data-key": "about" }, about(now, everywhere)),
      waits() ? controls : h("p.wrapped", { "data-key": "result" }, result()),
      optional(problem && problemBox(problem)),
    );
  }

  function take(now, reason) {
    if (state.sending) return;
    if (now && !(state.here && isOpen(now))) state.condition = now;
    state.ended = state.here && reason === GONE ? "" : reason;
  }

  draw();
  return { node, draw, take, waits, result, run: condition.run };
}

/** Facts about a question, in one line. */
function about(condition, everywhere) {
  const of = session.asking.find((run) => run.name === condition.run);
  const facts = [
    everywhere && [
      "Run ",
      h("a", { href: link(`runs/${part(condition.run)}`) }, name(condition.run)),
      of && [" of ", person(of.executed_by, "somebody"), of.task && [", ", taskName(of.task)]],
    ],
    condition.asked_at && ["Asked ", when(condition.asked_at)],
    condition.answered_at && ["Answered ", when(condition.answered_at)],
  ];
  return facts.filter(Boolean).flatMap((fact, index) => (index ? [" · ", fact] : [fact]));
}

function answerControls({ type, prompt_truncated: isCut }, send, still) {
  // Nobody answers what they could not read.
  if (isCut) return h("p.hint", "It is too long to be shown here, so it can’t be answered here.");
  if (!type) return h("p.hint", "Its type is unknown here, so it can’t be answered on this page.");
  if (type === "boolean") {
    const yes = button("Yes", () => send(true), { class: "primary" });
    const no = button("No", () => send(false));
    return still(h("div.actions", yes, no));
  }
  const fields = schemaForm(
    { properties: { Answer: { type } }, type: "object", required: ["Answer"] },
    {},
    "",
  );
  function submit() {
    const given = fields.read();
    if (given) send(given.Answer);
  }
  return h(
    "form.stack",
    { submit },
    fields.node,
    still(h("div.actions", h("button.primary", { type: "submit" }, "Send the answer"))),
  );
}
