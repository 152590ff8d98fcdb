// Who is signed in, what waits for an answer, and problems.
import { BASE, Problem, get, meaning } from "./api.js";
import { button, h, hasEnded, live, name, tick, webLink } from "./dom.js";

export const session = {
  me: undefined, // a promise of who is signed in
  asking: [], // runs that wait for an answer
};

/** A URL within this page. */
export function link(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value);
  return `#/${path}${given.length ? `?${new URLSearchParams(given)}` : ""}`;
}

const names = new Map(); // of people, by their subjects

/** What to call somebody; with their subject if another one has this name, or is in it. */
function nameOf(identity, otherwise = "nobody") {
  const { subject, name: given } = identity ?? {};
  const seen = given?.replace(/[\p{C}\p{Z}]+/gu, " "); // no marks that reorder, or that nobody sees
  const own = seen?.trim().slice(0, 100);
  if (subject && own) names.set(subject, own);
  const called = own || names.get(subject);
  if (!called) return subject || otherwise;
  const alike = (text) => text.normalize("NFKC").toLowerCase();
  const taken = ([other, its]) =>
    other !== subject && (alike(its) === alike(called) || alike(called).includes(alike(other)));
  return [...names].some(taken) ? `${called} (${subject || "no subject"})` : called;
}

/** Somebody's name, kept up to date, with the subject, which nobody chooses, as its title. */
export const person = (identity, otherwise) =>
  live(h("bdi", { title: identity?.subject }), () => nameOf(identity, otherwise));

/** Somebody's name and, small, their subject: names can look alike. */
export function personAndSubject(identity) {
  const { subject, name: called } = identity ?? {};
  const small = called && subject && [" ", h("code.type", name(subject))];
  return h("span", name(called || subject || "Somebody"), small);
}

const MOST_ASKING = 50;

/** How many runs wait for an answer, and the same in words, with who asks. */
const count = ({ length } = session.asking) =>
  length ? `${length}${length < MOST_ASKING ? "" : "+"}` : "";
function words() {
  const people = [
    ...new Set(session.asking.map((run) => nameOf(run.executed_by, "somebody"))),
  ].join(", ");
  return count() === "1"
    ? `A run of ${people} waits for an answer`
    : `${count()} runs of ${people} wait for an answer`;
}
document.getElementById("asking").append(
  live(h("span.count"), count),
  live(h("span.unseen"), () => count() && ` (${words()})`),
);

/** Load the runs that wait for an answer, which "Runs" says. */
export async function loadAsking(signal, inWords) {
  const paused = await get("runs", signal, { phase: "paused", limit: MOST_ASKING });
  session.asking = paused.filter((run) => !hasEnded(run));
  tick();
  banner("asking", inWords && count() && h("p.notice", h("a", { href: link("runs") }, words())));
  return session.asking;
}

const who = document.getElementById("who");
const actor = document.getElementById("actor");

/** Load who is signed in, and show it. */
export async function whoAmI() {
  session.me = get("me");
  const me = await session.me;
  const called = { subject: me.subject, name: me.name || me.email };
  const shown = () => (me.anonymous ? "anonymous" : person(called, "unknown to Flyte"));
  who.replaceChildren(
    shown(),
    webLink(me.sign_in, BASE) ? h("a", { href: webLink(me.sign_in, BASE) }, "Switch user") : "",
  );
  actor.replaceChildren("Every call to Flyte is made as ", shown(), ".");
  banner("signed-out");
  banner(
    "anonymous",
    me.anonymous &&
      h(
        "div.notice",
        h("strong", "You are anonymous. "),
        "The app’s connection to Flyte is not encrypted and carries no credentials: ",
        "Flyte can’t tell who does what.",
      ),
  );
}

/** Show a banner of this kind at the top, or remove it. */
export function banner(kind, content) {
  const before = document.querySelector(`#banners [data-kind="${kind}"]`);
  // The same would be read aloud again.
  if (content && before?.textContent === content.textContent) return;
  before?.remove();
  if (!content) return;
  content.dataset.kind = kind;
  document.getElementById("banners").append(content);
}

/** Show a problem, with what the user can do about it. */
export function problemBox(problem, retry) {
  if (!(problem instanceof Problem)) throw problem;
  const byFlyte = problem.refused_by === "flyte";
  const title = byFlyte ? "Flyte does not let you do this" : meaning(problem.status);
  return h(
    "div.notice.problem",
    { role: "alert", "data-status": problem.status },
    h("strong", title),
    problem.status !== 401 &&
      problem.detail &&
      problem.detail !== title &&
      h("p.told", { dir: "auto" }, problem.detail),
    byFlyte && h("p", "Administrators of the project in Flyte can change that."),
    h(
      "div.actions",
      problem.status === 401 && signIn(problem),
      retry && problem.status !== 413 && button("Try again", retry),
    ),
  );
}

/** A link to the app's sign-in URL, or a reload that leads to the sign-in of a proxy. */
function signIn({ sign_in: told }) {
  const address = webLink(told, BASE);
  return address
    ? h("a.button", { href: address, target: "_blank", rel: "noreferrer" }, "Sign in")
    : button("Reload to sign in", () => location.reload());
}

/** Show once that signing in is needed, no matter how many requests were refused. */
export function signedOut(problem) {
  if (document.querySelector("[data-kind='signed-out']")) return;
  banner("signed-out", problemBox(problem));
  who.replaceChildren("not signed in");
  actor.replaceChildren();
}
