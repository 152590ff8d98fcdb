// The page's frame: chooses the view, shows who is signed in, and handles events for all views.
import { Problem, refresh } from "./api.js";
import { runView } from "./run.js";
import { runsView } from "./runs.js";
import { banner, loadAsking, problemBox, signedOut, whoAmI } from "./session.js";
import { taskView, tasksView } from "./tasks.js";

const VIEWS = { tasks: [tasksView, taskView], runs: [runsView, runView] };
const APP = document.title;
const ASK = 30_000; // milliseconds between requests for what waits for an answer
const main = document.getElementById("main");
let leaving = new AbortController();
let first = true;

/** Show the view for the current URL. Its signal is aborted when the view is left. */
async function route() {
  if (location.hash && !location.hash.startsWith("#/")) return;
  const [path, search] = (location.hash.slice(2) || "tasks").split("?");
  const query = Object.fromEntries(new URLSearchParams(search));
  const [section, ...rest] = path.split("/");
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  for (const each of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("nav a")))
    each.ariaCurrent = each.dataset.section === section ? "page" : null;
  const view = document.createElement("div");
  main.replaceChildren(view);
  try {
    const subject = rest.length ? decodeURIComponent(rest.join("/")) : undefined;
    const show = VIEWS[section]?.[subject === undefined ? 0 : 1];
    if (!show) throw new Problem({ status: 404 });
    document.title = [subject ?? section.replace(/^./, (c) => c.toUpperCase()), APP].join(" · ");
    const showing = show(view, { subject, query, signal });
    banner("asking");
    const load = () => loadAsking(signal, show === tasksView);
    // The list of runs asks itself.
    if (show !== runsView) refresh(load, () => ASK, signal);
    if (!first) (view.querySelector("h1") ?? main).focus();
    first = false;
    await showing;
  } catch (error) {
    const problem = error instanceof URIError ? new Problem({ status: 404 }) : error;
    if (!signal.aborted) view.append(problemBox(problem, route));
  }
}

/**
 * Load who is signed in, if the app has `/me`; also when the page becomes visible, as it may after
 * a sign-in elsewhere.
 */
async function identify() {
  if (document.hidden) return;
  try {
    await whoAmI();
    if (main.querySelector("[data-status='401']")) route();
  } catch (problem) {
    if (![401, 404].includes(problem.status)) banner("signed-out", problemBox(problem, identify));
  }
}

addEventListener("hashchange", route);
addEventListener("submit", (event) => event.preventDefault()); // Enter does not submit
addEventListener("signedout", (event) => signedOut(/** @type {CustomEvent} */ (event).detail));
document.addEventListener("visibilitychange", identify);
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
identify();
route();
