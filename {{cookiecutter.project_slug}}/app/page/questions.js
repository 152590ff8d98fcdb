// What runs ask (Flyte's conditions), and the controls to answer. Prompts are other people's text.
import { part, post, stringify } from "./api.js";
import { button, card, h, name, newId, phaseWord, taskName, when } from "./dom.js";
import { schemaForm } from "./form.js";
import { link, person, personAndSubject, problemBox, session } from "./session.js";

const MOST = 100; // questions that wait are shown, and at least as many others are kept
const GONE = "This no longer waits for an answer";
const OVER = "The run has ended without an answer";
const STILL = 1000; // milliseconds that controls stand still before they take a click
const isOpen = ({ phase, value }) => phase === "paused" && value === null;
const time = ({ asked_at: at }) => Date.parse(at) || 0;

/**
 * A section with questions: those of one run or, with `everywhere`, all that wait.
 * @param {string} title
 * @param { {everywhere?: boolean, most?: number, answered?: () => void}} [options]
 */
export function questionsPanel(title, { everywhere, most, answered } = {}) {
  // By run and action: what is shown, its element, and whether it is answered from here
  const shown = new Map();
  const later = new Map(); // what waits, but has no place yet
  const list = h("div.stack");
  const news = h("p.unseen", { role: "status", tabindex: -1 });
  const note = h("p.hint");
  const heading = h("span", title);
  const node = card(heading, news, list, note);
  node.hidden = true;

  /**
   * Show questions that are new or have changed; with `everywhere`, they are all that wait, unless
   * there are `most`. New ones go below, and none is taken away: people click on what they have
   * read. `over` says that their run has ended.
   */
  function draw(conditions, over = false) {
    const given = new Map(conditions.map((each) => [`${each.run} ${each.action}`, each]));
    const isWhole = everywhere && conditions.length < most;
    const endOf = (condition, key) =>
      isOpen(condition) && ((over && OVER) || (isWhole && !given.has(key) && GONE));
    for (const [key, { condition, here, text }] of shown) {
      const now = given.get(key) ?? condition;
      const ended = endOf(now, key);
      if (text !== textOf(now, ended) && !(here && isOpen(now) && !over)) change(key, now, ended);
    }
    for (const [key, condition] of given) if (!shown.has(key)) later.set(key, condition);
    const newestFirst = [...later].sort(
      ([, a], [, b]) => Number(isOpen(b)) - Number(isOpen(a)) || time(b) - time(a),
    );
    let waiting = [...shown.values()].filter((each) => each.waits).length;
    for (const [key, condition] of newestFirst) {
      const waits = isOpen(condition) && !over;
      if (waits && waiting === MOST) continue;
      later.delete(key);
      show(key, condition, { ended: endOf(condition, key) });
      if (!waits) continue;
      waiting += 1;
      news.replaceChildren(name(condition.run), " asks: ", name(promptOf(condition).slice(0, 200)));
    }
    for (const [key, { waits, element }] of shown) {
      if (shown.size <= 2 * MOST) break;
      if (waits || element.contains(document.activeElement)) continue;
      element.remove();
      shown.delete(key);
    }
    note.textContent = later.size
      ? `The newest ${MOST} are shown. The others follow as these are answered.`
      : "";
    count();
  }

  function change(key, condition, ended) {
    const lost = shown.get(key).element.contains(document.activeElement);
    show(key, condition, { ended });
    if (!lost) return;
    news.replaceChildren(...(isOpen(condition) && ended ? [ended] : resultOf(condition)));
    news.focus();
  }

  function count() {
    node.hidden = !shown.size;
    const open = [...shown.values()].filter((each) => each.waits && !each.here);
    const runs = (of) => new Set(of.map(({ condition }) => condition.run));
    const answered = runs([...shown.values()]).difference(runs(open));
    // Before a request tells:
    session.asking = session.asking.filter((run) => !answered.has(run.name));
    if (everywhere)
      heading.textContent = `${title} (${open.length}${open.length < most ? "" : "+"})`;
  }

  function show(key, condition, { ended = "", here = false }) {
    const element = question(
      condition,
      { ended, here, everywhere },
      {
        sending(is) {
          shown.get(key).here = is;
        },
        sent(made) {
          news.replaceChildren(...resultOf(made));
          show(key, made, { here: true });
          news.focus();
          count();
          answered?.();
        },
      },
    );
    const before = shown.get(key)?.element;
    if (before) before.replaceWith(element);
    else list.append(element);
    const text = textOf(condition, ended);
    shown.set(key, { text, condition, element, here, waits: isOpen(condition) && !ended });
  }

  return { node, draw };
}

const textOf = (condition, ended) => stringify([condition, ended || ""]);
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

function question(condition, { ended, here, everywhere }, { sending, sent }) {
  const id = newId();
  const problem = h("div");
  const of = session.asking.find((run) => run.name === condition.run);
  const path = `runs/${part(condition.run)}/conditions`;
  const about = [
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
    const focused = /** @type {HTMLElement} */ (document.activeElement);
    element.inert = true; // one answer at a time
    sending(true);
    try {
      sent(await post(`${path}/${part(condition.action)}`, { value }));
    } catch (error) {
      problem.replaceChildren(problemBox(error));
      element.inert = false;
      focused.focus();
      sending(false);
    }
  }
  const element = h(
    "div.question",
    { role: "group", "aria-labelledby": id },
    h("p.told", { id, dir: "auto", tabindex: 0 }, promptOf(condition)),
    condition.description && h("p.described", { dir: "auto", tabindex: 0 }, condition.description),
    h(
      "p.hint.line",
      about.filter(Boolean).flatMap((each, index) => (index ? [" · ", each] : [each])),
    ),
    !isOpen(condition) || here
      ? h("p.text", resultOf(condition))
      : ended
        ? h("p.text", h("strong", ended))
        : controls(condition, send),
    problem,
  );
  return element;
}

function controls({ type, prompt_is_cut: isCut }, send) {
  // Nobody answers what they could not read.
  if (isCut) return h("p.hint", "It is too long to be shown here, so it can’t be answered here.");
  if (!type) return h("p.hint", "Its type is unknown here, so it can’t be answered on this page.");
  if (type === "boolean") {
    const yes = button("Yes", () => send(true), { class: "primary" });
    return still(
      h(
        "div.actions",
        yes,
        button("No", () => send(false)),
      ),
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
    still(h("div.actions", h("button.primary", { type: "submit" }, "Send the answer"))),
  );
}

// Questions move when others change, and a click may be meant for what stood there before.

const places = new Map(); // of buttons: where they stand, and since when

/** Let buttons take no click until they have stood still; keys know what they are for. */
function still(buttons) {
  buttons.classList.add("moving");
  places.set(buttons, {});
  function guard(event) {
    look();
    if (!event.detail || !buttons.classList.contains("moving")) return;
    event.preventDefault();
    event.stopPropagation();
  }
  buttons.addEventListener("click", guard, { capture: true });
  return buttons;
}

/** See which buttons have moved. */
function look() {
  for (const [buttons, { place, since }] of places) {
    const { left, top } = buttons.getBoundingClientRect();
    const now = `${Math.round(left + scrollX)} ${Math.round(top + scrollY)}`;
    const stood = now === place ? since : Date.now();
    if (buttons.isConnected) places.set(buttons, { place: now, since: stood });
    else places.delete(buttons);
    buttons.classList.toggle("moving", Date.now() - stood < STILL);
  }
}
setInterval(look, 100);
