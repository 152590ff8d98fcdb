// A client of the app's API: JSON, problems (RFC 9457), and streams.

/** The app's base URL; a proxy may serve the page under a path prefix. */
export const BASE = new URL(".", location.href.split("#")[0]);

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
  504: "Flyte did not respond in time",
};
/** What a status means, for a person. */
export const meaning = (status) => MEANING[status] ?? "The app or Flyte has failed";

/** The reason why a request failed. */
export class Problem extends Error {
  /** @type {number | undefined} 0 if there was no answer */ status;
  /** @type {string | undefined} */ detail;
  /** @type { { location: (string | number)[], detail: string }[] | undefined } */ errors;
  /** @type {string | undefined} */ refused_by;
  /** @type {string | undefined} */ sign_in;
  /** @type {boolean | undefined} whether nothing was sent */ unsent;

  /** @param {Partial<Problem>} problem */
  constructor(problem) {
    super(problem.detail || meaning(problem.status));
    Object.assign(this, problem);
  }
}

const json = /** @type {any} */ (JSON); // of whose functions TypeScript does not know all

/** A number that JavaScript would write otherwise, such as 1.0, -0.0 or 9007199254740993. */
export const written = (source) => Object.assign(new Number(source), { toString: () => source });

/** Parse JSON, so that `stringify` writes each number as it was written. */
export function parse(text) {
  return json.parse(text, (_, value, context) => {
    if (typeof value !== "number" || !context || String(value) === context.source) return value;
    if (!Number.isFinite(value))
      throw new SyntaxError(`${context.source} is too large for a number`);
    return written(context.source);
  });
}

/** Write JSON. */
export const stringify = (value, indent) => JSON.stringify(value, raw, indent);
const raw = (_, value) => (value instanceof Number ? json.rawJSON(String(value)) : value);

/**
 * Send a request. Undefined and null values in the query are left out; a body that is no Blob is
 * sent as JSON; `request` replaces `fetch`.
 */
async function send(method, path, /** @type {any} */ given = {}) {
  const { query = {}, body, signal, headers = {}, request = fetch } = given;
  const url = new URL(path, BASE);
  for (const [key, values] of Object.entries(query)) {
    for (const value of [values].flat()) if (value != null) url.searchParams.append(key, value);
  }
  /** @type {RequestInit} */
  const options = { method, signal, redirect: "manual", cache: "no-store", headers };
  if (body instanceof Blob) options.body = body;
  else if (body) {
    options.body = stringify(body);
    headers["Content-Type"] = "application/json";
  }
  let response;
  try {
    response = await request(url, options);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Problem({ status: 0 });
  }
  if (response.ok) return response;
  // A proxy in front of the app answers as it likes, or redirects to its sign-in page, which a
  // script can't follow.
  const status = response.type === "opaqueredirect" ? 401 : response.status;
  const told = await response
    .text()
    .then(parse)
    .catch(() => ({}));
  const error = new Problem({ ...told, status });
  if (error.status === 401) dispatchEvent(new CustomEvent("signedout", { detail: error }));
  throw error;
}

async function read(method, path, given) {
  const response = await send(method, path, given);
  if (response.headers.get("Content-Type")?.includes("json")) return parse(await response.text());
  throw new Problem({ detail: "The answer did not come from the app" });
}

export const get = (path, signal, query) => read("GET", path, { query, signal });
export const post = (path, body, query) => read("POST", path, { query, body });
export const part = encodeURIComponent;

/** Upload a file, if the app takes one as large; `progress` gets the share that has been sent. */
export async function upload(file, signal, progress) {
  const { max_upload_bytes: most } = await get("page/limits.json", signal);
  if (file.size > most) {
    const detail = `A file may have up to ${most / 1e6} MB. Give the URI of a larger one.`;
    throw new Problem({ status: 413, detail });
  }
  const request = (url, { method, body }) =>
    new Promise((resolve, reject) => {
      const sending = new XMLHttpRequest(); // `fetch` tells no progress
      sending.upload.onprogress = ({ loaded }) => progress(loaded / (file.size || 1));
      sending.onload = () =>
        resolve(
          new Response(sending.response, {
            status: sending.status,
            headers: { "Content-Type": sending.getResponseHeader("Content-Type") ?? "" },
          }),
        );
      sending.onerror = sending.onabort = reject;
      signal.addEventListener("abort", () => sending.abort());
      sending.open(method, url);
      // Otherwise a file of JSON is read as JSON.
      sending.setRequestHeader("Content-Type", "application/octet-stream");
      sending.send(body);
    });
  const query = { name: file.name };
  return read("POST", "files", { query, body: file, signal, request });
}

/**
 * Stream server-sent events, `{ id, data }`, in lists of those that arrived together; go on after
 * the id `last`.
 */
export async function* events(path, query, signal, opened, last) {
  const headers = last ? { "Last-Event-ID": last } : {};
  const response = await send("GET", path, { query, signal, headers });
  opened();
  let rest = "";
  let event = {};
  let problem;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read()) {
    const complete = [];
    const lines = (rest + chunk.value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(line);
      if (line)
        event[field] = field === "data" && "data" in event ? `${event.data}\n${value}` : value;
      else {
        if (event.event === "problem") problem = new Problem(parse(event.data));
        else if ("data" in event) complete.push(event);
        event = {};
      }
    }
    if (complete.length) yield complete;
    if (problem) throw problem;
  }
}

const FIRST_PAUSE = 500; // milliseconds
const LONGEST_PAUSE = 10_000;

/**
 * Keep a stream open while the page is visible; other tabs need the few connections, too.
 * `attempt` returns whether it is done; `trouble` gets each problem, and null once it is over.
 */
export async function persist(attempt, signal, trouble) {
  for (let failures = 0; !signal.aborted; ) {
    const hidden = new AbortController();
    const leave = () => hidden.abort();
    document.addEventListener("visibilitychange", leave);
    const began = Date.now();
    try {
      const connected = () => trouble(null);
      const both = AbortSignal.any([signal, hidden.signal]);
      if (!document.hidden && (await attempt(both, connected))) return;
    } catch (error) {
      if (!signal.aborted && !hidden.signal.aborted) {
        const problem = error instanceof Problem ? error : new Problem({ status: 0 });
        trouble(problem);
        if (![0, 401, 429].includes(problem.status) && problem.status < 500) return;
      }
    } finally {
      document.removeEventListener("visibilitychange", leave);
    }
    if (Date.now() - began > LONGEST_PAUSE) failures = 0;
    await pause(Math.min(FIRST_PAUSE * 2 ** failures++, LONGEST_PAUSE), signal);
  }
}

/** Load something again and again while the page is visible, unless it is refused or not found. */
export async function refresh(load, pauseBetween, signal, trouble = (_) => {}) {
  for (; !signal.aborted; await pause(pauseBetween(), signal)) {
    try {
      if (!document.hidden) await load();
      trouble(null);
    } catch (problem) {
      if (signal.aborted) return;
      trouble(problem);
      if ([403, 404].includes(problem.status)) return;
    }
  }
}

/**
 * Wait, but end early on the signal, or when the page becomes visible again.
 * @returns {Promise<void>}
 */
export function pause(milliseconds, signal) {
  const over = new AbortController();
  return new Promise((resolve) => {
    function end() {
      over.abort();
      resolve();
    }
    setTimeout(end, milliseconds);
    signal.addEventListener("abort", end, { signal: over.signal });
    document.addEventListener("visibilitychange", end, { signal: over.signal });
  });
}
