// Who is looking, at which project, and what is wrong.
import { BASE, Problem, get } from "./api.js";
import { button, h, name, person, webLink } from "./dom.js";

export const session = {
  scope: {}, // project and domain, where they are not the app's own
};

/** An address within this page, in the project that is looked at. */
export function link(path, query = {}) {
  const given = Object.entries({ ...session.scope, ...query }).filter(([, value]) => value);
  return `#/${path}${given.length ? `?${new URLSearchParams(given)}` : ""}`;
}

const who = document.getElementById("who");

/** Ask who this is, and show it. */
export async function whoAmI() {
  const me = await get("me");
  const shown = me.anonymous ? "nobody" : person({ ...me, name: me.name || me.email }, "unknown to Flyte");
  who.replaceChildren(
    h("span.avatar", { "aria-hidden": "true" }, [...shown][0].toUpperCase()),
    h("span", { title: me.email }, name(shown)));
  banner("signed-out");
  banner("anonymous", me.anonymous && h("div.notice",
    h("strong", "You act as nobody. "),
    "No credentials are sent over the app’s plain connection: Flyte can’t tell who does what here."));
}

/** Show one banner of this kind above everything, or none. */
export function banner(kind, content) {
  const banners = document.getElementById("banners");
  banners.querySelector(`[data-kind="${kind}"]`)?.remove();
  if (!content) return;
  content.dataset.kind = kind;
  banners.append(content);
}

const MEANING = {
  0: "The app can’t be reached",
  401: "You are not signed in, or no longer",
  403: "Flyte does not let you do this",
  404: "There is no such thing here, or you may not see it",
  409: "That can’t be done",
  410: "That is gone",
  413: "That is too large",
  422: "Some values can’t be used",
  503: "Flyte can’t be reached",
  504: "Flyte did not answer in time",
};

/** Say what is wrong, and offer what can be done about it. */
export function problemBox(problem, retry) {
  if (!(problem instanceof Problem)) throw problem;
  const title = MEANING[problem.status] ?? "The app or Flyte has failed";
  return h("div.notice.problem", { role: "alert", "data-status": problem.status },
    h("strong", title),
    problem.detail && problem.detail !== title && h("p.told", { dir: "auto" }, problem.detail),
    problem.status === 403 && h("p", "Those who administer the project on Flyte can change that."),
    h("div.actions",
      problem.status === 401 && signIn(problem),
      retry && problem.status !== 413 && button("Try again", retry)));
}

/** Where the app says, or at a gate in front of it, which a reload leads to. */
function signIn({ sign_in: told }) {
  const address = webLink(told, BASE);
  return address
    ? h("a.button", { href: address, target: "_blank", rel: "noreferrer" }, "Sign in")
    : button("Reload to sign in", () => location.reload());
}

/** Show that one has to sign in, once, whatever it was that was refused. */
export function signedOut(problem) {
  banner("signed-out", problemBox(problem));
  who.replaceChildren("not signed in");
}
