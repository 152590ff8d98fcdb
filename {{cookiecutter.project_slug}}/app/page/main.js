// The page's frame: chooses the view, shows who is signed in, and handles events for all views.
import { Problem, refresh } from "./api.js";
import { h, tick } from "./dom.js";
import { runView } from "./run.js";
import { runsView } from "./runs.js";
import { banner, link, loadAsking, problemBox, showAsking, signedOut, whoAmI } from "./session.js";
import { taskView, tasksView } from "./tasks.js";

const VIEWS = { tasks: [tasksView, taskView], runs: [runsView, runView] };
const APP = document.title;
const ASK = 30_000; // milliseconds between requests for what waits for an answer
const main = document.getElementById("main");
let leaving = new AbortController();
let first = true;
let isEdited = false; // whether the user has entered something in the present view

/** Show the view for the current URL. Its signal is aborted when the view is left. */
async function route() {
  if (location.hash && !location.hash.startsWith("#/")) return;
  const [path, search] = (location.hash.slice(2) || "tasks").split("?");
  const query = Object.fromEntries(new URLSearchParams(search));
  const [section, ...rest] = path.split("/");
  leaving.abort();
  leaving = new AbortController();
  isEdited = false;
  const { signal } = leaving;
  for (const each of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("nav a")))
    each.ariaCurrent = each.dataset.section === section ? "page" : null;
  for (const kind of ["asking", "user"]) banner(kind);
  const view = document.createElement("div");
  main.replaceChildren(view);
  try {
    const subject = rest.length ? decodeURIComponent(rest.join("/")) : undefined;
    const show = Object.hasOwn(VIEWS, section) && VIEWS[section][subject === undefined ? 0 : 1];
    const title = show ? (subject ?? section.replace(/^./, (c) => c.toUpperCase())) : "Not found";
    document.title = [title, APP].join(" · ");
    if (!show) throw new Problem({ status: 404 });
    const showing = show(view, { subject, query, signal });
    // The list of runs asks itself.
    const load = () => loadAsking(signal, show === tasksView);
    if (show !== runsView) refresh(load, () => ASK, signal);
    focusHeading(view);
    await showing;
  } catch (error) {
    const problem = error instanceof URIError ? new Problem({ status: 404 }) : error;
    if (signal.aborted) return;
    if (view.childElementCount) view.append(problemBox(problem, route));
    else showUnknown(view);
  }
}

function focusHeading(view) {
  if (!first) (view.querySelector("h1") ?? main).focus();
  first = false;
}

/** Show that an address leads nowhere, and the way home. */
function showUnknown(view) {
  const home = h("a", { href: link("tasks") }, "See all tasks");
  const why = h("p", "There is no page at this address. ", home, ".");
  view.append(h("h1", { tabindex: -1 }, "Page not found"), why);
  focusHeading(view);
}

/**
 * Load who is signed in, if the app has `/me`; also when the page becomes visible or gets the
 * focus, as it may after a sign-in elsewhere. What the user has entered stays.
 */
async function identify() {
  if (document.hidden) return;
  try {
    await whoAmI();
    const refused = main.querySelectorAll("[data-status='401']");
    if (isEdited) for (const each of refused) each.remove();
    else if (refused.length) route();
  } catch (problem) {
    if (![401, 404].includes(problem.status)) banner("signed-out", problemBox(problem, identify));
  }
}

function start() {
  setInterval(tick, 1000);
  showAsking();
  addEventListener("hashchange", route);
  addEventListener("submit", (event) => event.preventDefault()); // Enter does not submit
  addEventListener("signedout", (event) => signedOut(/** @type {CustomEvent} */ (event).detail));
  addEventListener("focus", identify);
  document.addEventListener("visibilitychange", identify);
  main.addEventListener("input", () => {
    isEdited = true;
  });
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault();
    main.focus();
  });
  identify();
  route();
}

if (!main.matches(".unsupported")) start();
