// A run's actions as a tree: its tasks, traces and questions, as Flyte lists them.
import { get, part, refresh, stringify } from "./api.js";
import { button, card, h, hasEnded, name, phaseBadge, runDuration } from "./dom.js";
import { problemBox } from "./session.js";

const PAGE = 50; // the most that the app returns at once
const MOST = 1000; // actions that are shown
const EVERY = 3_000; // milliseconds between requests, for each page

/** Show the tree until the run has ended; `choose` gets the action that the user selects. */
export function actionsPanel(run, scope, signal, ended, choose) {
  const tree = h("div.tree");
  const trouble = h("div");
  const node = card("Actions", tree, trouble);
  node.hidden = true; // a run of one action is described by the rest of the view
  let chosen = "a0";
  let all = [];
  let drawn;

  async function load() {
    const found = [];
    for (let page; !page || (page.length === PAGE && found.length < MOST); found.push(...page)) {
      page = await get(`runs/${part(run)}/actions`, { ...scope, offset: found.length, limit: PAGE }, signal);
    }
    all = found;
    draw();
  }

  function draw() {
    if (drawn === (drawn = stringify([all, chosen]))) return;
    const focused = tree.contains(document.activeElement) && document.activeElement.closest("li").dataset.action;
    const children = Map.groupBy(all, (each) => (all.some(({ name }) => name === each.parent) ? each.parent : null));
    const list = (parent) => children.has(parent) && h("ul", children.get(parent).map((each) => item(each, list(each.name))));
    tree.replaceChildren(...[list(null)].filter(Boolean));
    if (focused) tree.querySelector(`[data-action="${CSS.escape(focused)}"] button`)?.focus();
    node.hidden = all.length < 2;
  }

  function item(action, inner) {
    const select = button(name(action.title), () => {
      chosen = action.name;
      draw();
      choose(action);
    }, { class: "choice", "aria-pressed": String(action.name === chosen), title: action.task ?? action.name });
    return h("li", { "data-action": action.name },
      h("div.action",
        phaseBadge(action.phase), select,
        action.group && h("span.type", { title: "Group" }, name(action.group)),
        action.attempts > 1 && h("span.type", `${action.attempts} attempts`),
        h("span.took", runDuration(action))),
      action.error && action.parent && h("pre.told", { dir: "auto", tabindex: 0 }, action.error),
      inner);
  }

  refresh(load, ended, () => EVERY * Math.ceil((all.length + 1) / PAGE), signal, (problem) => {
    trouble.replaceChildren(problem && !node.hidden && problem.status !== 401 ? problemBox(problem) : "");
  });
  return { node, hasEnded: (action) => ended() || hasEnded(all.find((each) => each.name === action) ?? {}) };
}
