// Who is signed in, the selected project, and problems.
import { BASE, Problem, get } from "./api.js";
import { button, h, name, person, webLink } from "./dom.js";

export const session = {
  me: undefined, // a promise of who is signed in
  scope: {}, // project and domain, if they are not the app's own
};

/** A URL within this page, in the selected project. */
export function link(path, query = {}) {
  const given = Object.entries({ ...session.scope, ...query }).filter(([, value]) => value);
  return `#/${path}${given.length ? `?${new URLSearchParams(given)}` : ""}`;
}

const who = document.getElementById("who");
const actor = document.getElementById("actor");

/** Load who is signed in, and show it. */
export async function whoAmI() {
  session.me = get("me");
  const me = await session.me;
  const shown = me.anonymous ? "anonymous" : person({ ...me, name: me.name || me.email }, "unknown to Flyte");
  who.replaceChildren(
    h("span.avatar", { "aria-hidden": "true" }, [...shown][0].toUpperCase()),
    h("span", { title: me.email }, name(shown)),
    webLink(me.sign_in, BASE) ? h("a", { href: webLink(me.sign_in, BASE) }, "Switch user") : "");
  actor.replaceChildren("Every call to Flyte is made as ", name(shown), ".");
  banner("signed-out");
  banner("anonymous", me.anonymous && h("div.notice",
    h("strong", "You are anonymous. "),
    "The app’s connection to Flyte is not encrypted and carries no credentials: Flyte can’t tell who does what."));
}

/** Show a banner of this kind at the top, or remove it. */
export function banner(kind, content) {
  const banners = document.getElementById("banners");
  banners.querySelector(`[data-kind="${kind}"]`)?.remove();
  if (!content) return;
  content.dataset.kind = kind;
  banners.append(content);
}

const MEANING = {
  0: "The app can’t be reached",
  401: "You are not signed in, or your session has expired",
  403: "You may not do this",
  404: "This does not exist, or you may not see it",
  409: "That can’t be done",
  410: "This no longer exists",
  413: "That is too large",
  422: "Some values can’t be used",
  503: "Flyte can’t be reached",
  504: "Flyte did not answer in time",
};

/** Show a problem, with what the user can do about it. */
export function problemBox(problem, retry) {
  if (!(problem instanceof Problem)) throw problem;
  const byFlyte = problem.refused_by === "flyte";
  const title = byFlyte ? "Flyte does not let you do this" : MEANING[problem.status] ?? "The app or Flyte has failed";
  return h("div.notice.problem", { role: "alert", "data-status": problem.status },
    h("strong", title),
    problem.status !== 401 && problem.detail && problem.detail !== title && h("p.told", { dir: "auto" }, problem.detail),
    byFlyte && h("p", "Administrators of the project in Flyte can change that."),
    h("div.actions",
      problem.status === 401 && signIn(problem),
      retry && problem.status !== 413 && button("Try again", retry)));
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
