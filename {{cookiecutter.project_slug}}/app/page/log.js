// A run's log, shown as it is written; it resumes after an interruption.
import { events, parse, part, persist } from "./api.js";
import { card, copyButton, h, name } from "./dom.js";

const CHUNK = 200; // lines that are added and removed together
const MAX_LINES = 100_000; // lines kept
const MAX_CHARACTERS = 5_000_000; // kept: no browser shows what is below 33,554,432 pixels
// control sequences for terminals: colours, links, titles (ECMA-48)
const CONTROLS = /\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x1b\n]*\x1b\\|[ -/]*[0-~])/g;

// Flyte logs as warnings that an action begins and ends.
const NO_WARNING = /^(\[flyte\] )WARNING (Flyte runtime (started|completed) )/gm;

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
  const status = h("p.hint.optional", { role: "status" });
  const [followNode, follow] = toggle("Follow", scrollDown);
  const [wrapNode, wrap] = toggle("Wrap lines", () => {
    output.classList.toggle("log-unwrapped", !wrap.checked);
    scrollDown();
  });
  const lines = logLines(output, scrollDown);
  const say = (words) => {
    if (status.textContent !== words) status.textContent = words;
  };
  const quiet = () =>
    reader.hasLines() ? "" : ended() ? "The log is empty." : "Waiting for the first line…";
  const reader = logReader({ run, action, ended, add: lines.add, heard: () => say("") });

  function scrollDown() {
    if (follow.checked) output.scrollTop = output.scrollHeight;
  }

  say(quiet());
  persist(reader.attempt, signal, (problem) => {
    if (!problem) return say(quiet());
    const goesOn = reader.hasLines() ? "continue" : "appear";
    const isFinal = problem.status > 401 && problem.status < 429;
    const later = isFinal ? "" : `. The log will ${goesOn} as soon as this is over.`;
    say(`${problem.message}${later}`);
  });
  const tools = h("div.actions", followNode, wrapNode, copyButton("Copy log", lines.text));
  return card("log", title ? ["Log of ", name(title)] : "Log", tools, output, status);
}

/** The lines in an element, drawn once per frame; the oldest are dropped if there are too many. */
function logLines(output, drawn) {
  const missing = output.appendChild(h("p.log-mark"));
  const chunks = []; // what is shown: elements, with the numbers of their lines and characters
  const total = (of) => chunks.reduce((sum, chunk) => sum + chunk[of], 0);
  let waiting = []; // lines and marks of the page's own, to be drawn with the next frame
  let dropped = 0; // lines

  function append({ kind, lines }) {
    for (let start = 0; start < lines.length; ) {
      let chunk = chunks.at(-1);
      if (chunk?.kind !== kind || chunk.lines === CHUNK) {
        chunk = { kind, element: output.appendChild(h(kind)), lines: 0, characters: 0 };
        chunks.push(chunk);
      }
      const some = lines.slice(start, start + CHUNK - chunk.lines);
      const written = `${some.join("\n").replace(CONTROLS, "").replace(NO_WARNING, "$1$2")}\n`;
      chunk.element.append(written);
      chunk.lines += some.length;
      chunk.characters += written.length;
      start += some.length;
    }
  }

  function draw() {
    for (const each of waiting) append(each);
    waiting = [];
    while (total("lines") > MAX_LINES || total("characters") > MAX_CHARACTERS) {
      const { element, lines } = chunks.shift();
      element.remove();
      dropped += lines;
    }
    if (dropped) missing.textContent = `The first ${dropped} lines are not kept here\n`;
    drawn();
  }

  return {
    add(kind, lines) {
      if (!waiting.length) requestAnimationFrame(draw);
      if (waiting.at(-1)?.kind !== kind) waiting.push({ kind, lines: [] });
      waiting.at(-1).lines.push(...lines);
    },
    text: () => [...output.children].map((part) => part.textContent).join(""),
  };
}

/** Reads the stream of a log; each attempt goes on after the last line. */
function logReader({ run, action, ended, add, heard }) {
  let last; // the id of the last event: an attempt and a line
  let isWhole = false; // all of it had come when the action had ended

  /** Tell what comes between the lines of two attempts. */
  function mark(event, { attempt }) {
    const isKnown = isWhole && last?.startsWith(`${attempt}-`);
    if (event !== "unavailable") add("p.log-mark", attempt > 1 ? [`Attempt ${attempt}`] : []);
    else if (!isKnown) add("p.log-mark", [`The log of attempt ${attempt} is gone`]);
  }

  async function attempt(until, connected) {
    const before = last;
    const path = `runs/${part(run)}/logs`;
    try {
      for await (const some of events(path, { action }, until, connected, last)) {
        for (const { event, id, data } of some) {
          if (event) mark(event, parse(data));
          else add("div", data.split("\n"));
          last = id ?? last;
        }
        heard();
      }
      isWhole = ended();
    } catch (error) {
      if (error.status !== 404 || ended()) throw error; // there may be a log later
    }
    // A stream that ends before the run was cut off; one that had lines may have more.
    return ended() && last === before;
  }

  return { attempt, hasLines: () => Boolean(last) };
}

function toggle(label, change) {
  const box = h("input", { type: "checkbox", checked: true, change });
  return [h("label.toggle", box, label), box];
}
