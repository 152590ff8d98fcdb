// The phases of runs and actions, and times.
import { h, live } from "./dom.js";

/**
 * All phases. `tone` is the class with its colour, `bar` the pattern of its part of a bar, and
 * `group` the choice of the list's filter that finds it.
 * @type {Record<string, {tone: string, group?: string, bar?: string, ended?: boolean}>}
 */
const PHASES = {
  queued: { tone: "faint", group: "active", bar: "queued" },
  waiting_for_resources: { tone: "faint", group: "active", bar: "queued" },
  initializing: { tone: "faint", group: "active", bar: "initializing" },
  running: { tone: "busy", group: "active", bar: "running" },
  paused: { tone: "odd", bar: "paused" },
  succeeded: { tone: "good", group: "succeeded", ended: true },
  recovered: { tone: "good", group: "succeeded", ended: true },
  failed: { tone: "bad", group: "failed", ended: true },
  timed_out: { tone: "bad", group: "failed", ended: true },
  aborted: { tone: "odd", group: "aborted", ended: true },
};
const phaseOf = ({ phase }) => PHASES[phase] ?? { tone: "busy" };

export const hasEnded = (run) => Boolean(phaseOf(run).ended);
/** Whether an action waits for its task to begin, so that it has no log. */
export const isWaiting = (action) => phaseOf(action).tone === "faint";
/** The pattern of a phase in a bar, if it lasts. */
export const patternOf = (step) => phaseOf(step).bar;
/** The class with the colour of a phase. */
export const toneOf = (step) => phaseOf(step).tone;
/** The phases of one choice of the list's filter. */
export const phasesOf = (group) =>
  Object.keys(PHASES).filter((phase) => group && PHASES[phase].group === group);

export const phaseWord = (phase) =>
  (phase ?? "unknown").replaceAll("_", " ").replace(/^./, (first) => first.toUpperCase());
export const phaseBadge = (phase) =>
  h("span", { class: `phase ${toneOf({ phase })}` }, phaseWord(phase));

/** @type {[string, number][]} of time, in seconds */
export const UNITS = Object.entries({ d: 86400, h: 3600, min: 60, s: 1 });

/** A length of time in its largest units. */
export function duration(milliseconds, units = 2) {
  let rest = Math.max(0, milliseconds) / 1000;
  if (rest < 10 && units > 1) return `${rest.toFixed(1)} s`;
  const parts = UNITS.map(([unit, size]) => {
    const amount = Math.floor(rest / size);
    rest -= amount * size;
    return amount && `${amount} ${unit}`;
  });
  return parts.filter(Boolean).slice(0, units).join(" ") || "0 s";
}

const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const DAY = 86_400_000;

/** The time of an event: how long ago, kept up to date, or after a day the time. */
export function when(iso) {
  const at = Date.parse(iso);
  const element = h("time", { datetime: iso, title: exact.format(at) });
  if (Date.now() - at > DAY) element.append(exact.format(at));
  else live(element, () => `${duration(Date.now() - at, 1)} ago`);
  return element;
}

/** A run's duration, kept up to date until it has ended. */
export function runDuration({ phase, started_at: start, ended_at: end }) {
  const since = (until) => duration(until - Date.parse(start));
  if (!start) return "–";
  if (hasEnded({ phase })) return end ? since(Date.parse(end)) : "–";
  return live(h("span"), () => since(Date.now()));
}
