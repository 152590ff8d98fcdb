"""A run of very many actions: memory, and how long the browser does nothing else."""

import httpx
import pytest

from local_flyte.testing import wait_until

from .visiting import Visit, go, started

ACTIONS = 5_000
MOST_SHOWN = 1_000
MOST_BYTES = 150_000_000
LONGEST_BLOCK = 200  # milliseconds
TRIES = 3  # the machine may do something else

# The page's own scripts get what the app would send, as fast as they take it; meanwhile it is noted
# how long the browser can do nothing else.
STREAM = """
function* parts() {
    const long = "Traceback ".repeat(2000);
    const at = (second) => new Date(Date.UTC(2026, 0, 31) + 1000 * second).toISOString();
    let text = "";
    for (let number = 0; number < %(actions)s; number++) {
        const event = { message: long, count: 7, last_at: at(number) };
        const spent = { attempt: 1, started_at: at(number), ended_at: at(number + 1) };
        const action = { name: `a${number}`, type: "task", title: `task ${number %% 9}`,
            task: "x.y", parent: number ? "a0" : null, group: null, phase: "failed", attempts: 1,
            started_at: at(number), ended_at: at(number ? number + 1 : %(actions)s), error: long,
            phases: ["queued", "initializing", "running"].map((phase) => ({ ...spent, phase })),
            cached: false, events: Array(5).fill(event), condition: null, has_report: false };
        text += `event: action\\ndata: ${JSON.stringify(action)}\\n\\n`;
        if (text.length > 60000) { yield text; text = ""; }
    }
    yield text;
}
const real = window.fetch;
window.fetch = (url, options) => {
    if (!String(url).includes("/actions/events")) return real(url, options);
    const texts = window.sent ? [].values() : parts(); // all of it, once
    const pull = (stream) => {
        const { value, done } = texts.next();
        if (!done) stream.enqueue(new TextEncoder().encode(value));
        else (stream.close(), window.sent = true);
    };
    return Promise.resolve(new Response(new ReadableStream({ pull }, { highWaterMark: 0 })));
};
let before = performance.now();
window.longest = 0;
setInterval(() => {
    const now = performance.now();
    window.longest = Math.max(window.longest, now - before);
    before = now;
});
"""


@pytest.mark.weekly
def test_a_run_of_5000_failed_actions_leaves_memory_and_time_for_other_things(
    visit: Visit, api: httpx.Client
) -> None:
    name = started(api, "greet", name="Ada")
    page = visit("alice")
    page.add_init_script(STREAM % {"actions": ACTIONS})
    blocks = []
    # Looking for an element by its text would take the browser long.
    shown = "window.sent && document.querySelectorAll('.action').length"
    for _ in range(TRIES):
        go(page, f"runs/{name}")
        wait_until(lambda: page.evaluate(shown) == MOST_SHOWN)
        heap = page.context.new_cdp_session(page).send("Runtime.getHeapUsage")
        assert heap["usedSize"] + heap["embedderHeapUsedSize"] < MOST_BYTES
        blocks.append(page.evaluate("window.longest"))
        if blocks[-1] < LONGEST_BLOCK:
            break
    assert min(blocks) < LONGEST_BLOCK
