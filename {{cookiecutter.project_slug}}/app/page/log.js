// A run's log, shown as it is written; it resumes after an interruption.
import { events, parse, part, persist } from "./api.js";
import { card, copyButton, h, name } from "./dom.js";

const CHUNK = 200; // lines that are added and removed together
const MOST_LINES = 100_000; // lines kept
const MOST_CHARACTERS = 5_000_000; // kept: no browser shows what is below 33,554,432 pixels
// control sequences for terminals: colours, links, titles (ECMA-48)
const CONTROLS = /\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x1b\n]*\x1b\\|[ -/]*[0-~])/g;

/** Show the log of an action of a run; `ended` returns whether the action has ended. */
export function logPanel({ run, action, title }, signal, ended) {
  const output = h("div.log", {
    role: "log",
    "aria-live": "off",
    "aria-label": "Log",
    tabindex: 0,
    scroll() {
      // Scrolling up stops following; scrolling to the end starts it again.
      follow.checked = output.scrollHeight - output.scrollTop - output.clientHeight < 24;
    },
  });
  const state = h("p.hint", { role: "status" });
  const [followNode, follow] = toggle("Follow", scrollDown);
  const [wrapNode, wrap] = toggle("Wrap lines", () => {
    output.classList.toggle("nowrap", !wrap.checked);
    scrollDown();
  });
  const missing = h("p.mark");
  output.append(missing);
  const text = () => [...output.children].map((part) => part.textContent).join("");
  const tools = h("div.actions", followNode, wrapNode, copyButton("Copy log", text));

  let last; // the id of the last event: an attempt and a line
  let isWhole = false; // all of it had come when the action had ended
  let waiting = []; // lines and marks of the page's own, to be drawn with the next frame
  const chunks = []; // what is shown: elements, with the numbers of their lines and characters
  const total = (of) => chunks.reduce((sum, chunk) => sum + chunk[of], 0);
  let dropped = 0; // lines

  function scrollDown() {
    if (follow.checked) output.scrollTop = output.scrollHeight;
  }

  function draw() {
    for (const { kind, lines } of waiting) {
      for (let start = 0; start < lines.length; ) {
        let chunk = chunks.at(-1);
        if (chunk?.kind !== kind || chunk.lines === CHUNK) {
          chunk = { kind, element: output.appendChild(h(kind)), lines: 0, characters: 0 };
          chunks.push(chunk);
        }
        const some = lines.slice(start, start + CHUNK - chunk.lines);
        const written = `${some.join("\n").replace(CONTROLS, "")}\n`;
        chunk.element.append(written);
        chunk.lines += some.length;
        chunk.characters += written.length;
        start += some.length;
      }
    }
    waiting = [];
    while (total("lines") > MOST_LINES || total("characters") > MOST_CHARACTERS) {
      const { element, lines } = chunks.shift();
      element.remove();
      dropped += lines;
    }
    if (dropped) missing.textContent = `The first ${dropped} lines are not kept here\n`;
    scrollDown();
  }

  function add(kind, lines) {
    if (!waiting.length) requestAnimationFrame(draw);
    if (waiting.at(-1)?.kind !== kind) waiting.push({ kind, lines: [] });
    waiting.at(-1).lines.push(...lines);
  }

  /** Tell what comes between the lines of two attempts. */
  function mark(event, { attempt }) {
    const isKnown = isWhole && last?.startsWith(`${attempt}-`);
    if (event !== "unavailable") add("p.mark", attempt > 1 ? [`Attempt ${attempt}`] : []);
    else if (!isKnown) add("p.mark", [`The log of attempt ${attempt} is gone`]);
  }

  const say = (words) => {
    if (state.textContent !== words) state.textContent = words;
  };
  const quiet = () => (last ? "" : ended() ? "The log is empty." : "Waiting for the first line…");

  async function attempt(until, connected) {
    const before = last;
    try {
      for await (const some of events(
        `runs/${part(run)}/logs`,
        { action },
        until,
        connected,
        last,
      )) {
        for (const { event, id, data } of some) {
          if (event) mark(event, parse(data));
          else add("div", data.split("\n"));
          last = id ?? last;
        }
        say("");
      }
      isWhole = ended();
    } catch (error) {
      if (error.status !== 404 || ended()) throw error; // there may be a log later
    }
    // A stream that ends before the run was cut off; one that had lines may have more.
    return ended() && last === before;
  }

  say(quiet());
  persist(attempt, signal, (problem) => {
    if (!problem) say(quiet());
    else if (problem.status > 401 && problem.status < 429) say(problem.message);
    else
      say(
        `${problem.message}. The log will ${last ? "continue" : "appear"} as soon as this is over.`,
      );
  });
  return card(title ? ["Log of ", name(title)] : "Log", tools, output, state);
}

function toggle(label, change) {
  const box = h("input", { type: "checkbox", checked: true, change });
  return [h("label.toggle", box, label), box];
}
