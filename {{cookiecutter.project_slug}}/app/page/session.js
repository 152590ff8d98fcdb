// Who is signed in, runs that wait for an answer, and problems.
import { BASE, Problem, get, meaning } from "./api.js";
import { button, h, live, tick, webLink } from "./dom.js";
import { nameOf, person } from "./names.js";
import { hasEnded } from "./phases.js";

export const session = {
  me: undefined, // a promise of who is signed in
  user: undefined, // who was signed in at last; changes are theirs
  asking: [], // runs that wait for an answer
};

/** A URL within this page. */
export function link(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value);
  return `#/${path}${given.length ? `?${new URLSearchParams(given)}` : ""}`;
}

const MAX_PAUSED = 50;

/** How many runs wait for an answer, and the same in words, with who asks. */
const count = ({ length } = session.asking) =>
  length ? `${length}${length < MAX_PAUSED ? "" : "+"}` : "";
function words() {
  const owners = new Set(session.asking.map((run) => nameOf(run.executed_by, "somebody")));
  const people = [...owners].join(", ");
  return count() === "1"
    ? `A run of ${people} waits for an answer`
    : `${count()} runs of ${people} wait for an answer`;
}

/** Show in the navigation how many runs wait for an answer. */
export const showAsking = () =>
  document.getElementById("asking").append(
    live(h("span.count"), count),
    live(h("span.unseen"), () => count() && ` (${words()})`),
  );

/** Load the runs that wait for an answer, which "Runs" says. */
export async function loadAsking(signal, inWords) {
  const paused = await get("runs", signal, { phase: "paused", limit: MAX_PAUSED });
  session.asking = paused.filter((run) => !hasEnded(run));
  tick();
  banner("asking", inWords && count() && h("p.notice", h("a", { href: link("runs") }, words())));
  return session.asking;
}

const called = ({ subject, name, email }) => ({ subject, name: name || email });
const isSame = (one, other) =>
  ["subject", "email", "anonymous"].every((key) => one[key] === other[key]);

/** Load who is signed in, show it, and say so if it is somebody else than before. */
export async function whoAmI() {
  session.me = get("me");
  const me = await session.me;
  const before = session.user;
  session.user = me;
  showUser(me);
  banner("signed-out");
  if (before && !isSame(before, me))
    banner("user", h("p.notice", h("span", "You are now signed in as ", userName(me), ".")));
  sessionStorage.removeItem(RELOADED);
  return me;
}

/**
 * Send a change as the user that the page shows. If somebody else has signed in meanwhile, in
 * another window, nothing is sent. An app without `/me` can't tell.
 */
export async function change(send) {
  const before = session.user;
  if (before) {
    const now = await whoAmI().catch((problem) => {
      throw Object.assign(problem, { unsent: true });
    });
    if (!isSame(before, now)) {
      const who = now.anonymous ? "anonymous" : nameOf(called(now), "somebody else");
      const detail = `You are now signed in as ${who}. Nothing was sent.`;
      throw new Problem({ status: 409, detail, unsent: true });
    }
  }
  return send();
}

const userName = (me) => (me.anonymous ? "anonymous" : person(called(me), "unknown to Flyte"));

function showUser(me) {
  const [signIn, signOut] = [webLink(me.sign_in, BASE), webLink(me.sign_out, BASE)];
  document
    .getElementById("who")
    .replaceChildren(
      userName(me),
      signIn ? h("a", { href: signIn }, "Switch user") : "",
      signOut ? h("a", { href: signOut }, "Sign out") : "",
    );
  const actor = document.getElementById("actor");
  actor.replaceChildren("Every call to Flyte is made as ", userName(me), ".");
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
  const detail = problem.status !== 401 && problem.detail !== title && problem.detail;
  return h(
    "div.notice.problem",
    { role: "alert", "data-status": problem.status },
    h("strong", title),
    detail && h("p.wrapped.small", { dir: "auto" }, detail),
    byFlyte && h("p", "Administrators of the project in Flyte can change that."),
    h(
      "div.actions.optional",
      problem.status === 401 && signIn(problem),
      retry && problem.status !== 413 && button("Try again", retry),
    ),
  );
}

const RELOADED = "reloaded to sign in"; // kept for as long as the tab is open

/** A link to the app's sign-in URL, or a reload that leads to the sign-in of a proxy. */
function signIn({ sign_in: told }) {
  const address = webLink(told, BASE);
  if (address)
    return h("a.button", { href: address, target: "_blank", rel: "noreferrer" }, "Sign in");
  if (sessionStorage.getItem(RELOADED))
    return h("p", "Reloading did not sign you in. The app’s developer can set SIGN_IN_URL.");
  return button("Reload to sign in", () => {
    sessionStorage.setItem(RELOADED, "yes");
    location.reload();
  });
}

/** Show that signing in is needed: once, no matter how many requests were refused. */
export async function signedOut(problem) {
  document.getElementById("who").replaceChildren("not signed in");
  document.getElementById("actor").replaceChildren();
  await new Promise((shown) => setTimeout(shown)); // where the request was made, if it is visible
  if (!document.querySelector("[data-status='401']")) banner("signed-out", problemBox(problem));
}
