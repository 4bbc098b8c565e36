// The one way to the server: the public native API, with the sign-in of whoever looks.

import { fields, noteDate } from "./format.js";
import { enter, forget, headers, kept, leave } from "./session.js";

export { headers } from "./session.js";

const NATIVE = document.querySelector("meta[name=jobqueue-native]").content;
const ASKED_FOR = document.querySelector("meta[name=jobqueue-token]").content === "needed";
const PATIENCE_MS = 15_000;

/** Who is signed in. scopes and queues: what the token may do, as GET /token tells; known: whether that was asked. */
export const who = { known: false, name: null, scopes: new Set(), queues: ["*"], needed: false };

/** What the server refused, or that it could not be reached (status 0). */
export class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail ?? problem.message ?? problem.error ?? `the server answered ${status}`);
    this.status = status;
    this.code = problem.code ?? null;
    this.field = problem.field ?? null;
  }
}

/** The address of a native path that begins without a slash. */
export const address = (path) => NATIVE + path;

/** The same as anybody else would write it, for a command line. */
export const absolute = (path) => new URL(address(path), document.baseURI).href;

/**
 * The path of a job or a queue: place("jobs", id, "/cancel"). What a browser or a proxy would take for a part of the path goes into the
 * query, which nobody rewrites.
 */
export const place = (kind, id, operation = "") => {
  const text = encodeURIComponent(id);
  const undone = /[/\\%?#;]/.test(id) || id === "." || id === "..";
  return undone ? `${kind}/-${operation}?${["queues", "schedules", "workers"].includes(kind) ? "name" : "id"}=${text}` : `${kind}/${text}${operation}`;
};

async function ask(method, url, body) {
  const init = { method, headers: headers(), cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) };
  if (body !== undefined) {
    init.headers["Content-Type"] = "application/json";
    init.body = typeof body === "string" ? body : JSON.stringify(body);
  }
  try {
    const answer = await fetch(url, init);
    noteDate(answer.headers.get("Date"));
    return [answer, await answer.text()];
  } catch (error) {
    throw new Refused(0, { detail: `the server cannot be reached (${error.name})` });
  }
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** One operation; what it answered. Raises Refused. */
export async function call(method, path, body) {
  const half = kept();
  const [answer, text] = await ask(method, address(path), body);
  if (answer.ok) return text === "" ? null : parsed(text);
  if (answer.status === 401) {
    forget(half);
    who.needed = true;
    who.known = false;
  }
  throw new Refused(answer.status, parsed(text) ?? {});
}

/** A whole job and the JSON texts of its fields. Raises Refused. */
export async function job(id) {
  const [answer, text] = await ask("GET", address(place("jobs", id)));
  if (!answer.ok) throw new Refused(answer.status, parsed(text) ?? {});
  return { job: parsed(text), texts: fields(text) };
}

/** A schedule, the JSON texts of its job's fields, and of its payload. Raises Refused. */
export async function schedule(name) {
  const [answer, text] = await ask("GET", address(place("schedules", name)));
  if (!answer.ok) throw new Refused(answer.status, parsed(text) ?? {});
  const job = fields(fields(text).get("job"));
  return { schedule: parsed(text), job, payload: job.get("payload") };
}

/** "ready", or why not. */
export async function readiness() {
  try {
    const [answer, text] = await ask("GET", "readyz");
    const said = parsed(text) ?? {};
    return answer.ok ? { ready: true, said } : { ready: false, said: said.detail ?? `readyz answers ${answer.status}` };
  } catch (error) {
    return { ready: false, said: error.message };
  }
}

/** Sign in with a token, or see who is signed in already, if anybody has to be. Raises Refused. */
export async function signIn(token) {
  if (token !== undefined) await entered(token);
  else if (ASKED_FOR && kept() === null) {
    // Known without asking; a refusal would stand in the console as an error.
    who.needed = true;
    return;
  }
  const told = await call("GET", "token");
  Object.assign(who, { known: true, needed: false, name: told.name, scopes: new Set(told.scopes), queues: told.queues });
}

async function entered(token) {
  let found;
  try {
    found = await enter(token, { signal: AbortSignal.timeout(PATIENCE_MS) });
  } catch (error) {
    throw new Refused(0, { detail: `the server cannot be reached (${error.name})` });
  }
  const [answer, text] = found;
  if (!answer.ok) throw new Refused(answer.status, parsed(text) ?? {});
}

/** Nobody is signed in any more. ended: by the server or in another tab, so nothing is left to end. */
export function signOut({ ended = false } = {}) {
  if (!ended) leave();
  Object.assign(who, { known: false, needed: true, name: null, scopes: new Set() });
}

/** Whether the token has a scope. */
export const may = (scope) => who.scopes.has(scope);

// Every queue as it was last told, by name, and what to ask with for those that changed since.
const told = { since: "0", queues: new Map(), sorted: [] };

/** Know no queue any more: whoever looks next may see others. */
export const forgetQueues = () => Object.assign(told, { since: "0", queues: new Map(), sorted: [] });

/** Every queue, by name. Only those that changed are sent, all of them at first. */
export async function queues() {
  const { since } = told;
  const pages = [];
  do {
    const query = new URLSearchParams({ changed_since: since });
    if (pages.length > 0) query.set("cursor", pages.at(-1).cursor);
    pages.push(await call("GET", `queues?${query}`));
  } while (pages.at(-1).cursor !== null);
  // Somebody signed out meanwhile.
  if (told.since !== since) return told.sorted;
  if (pages[0].whole) told.queues = new Map();
  const before = told.queues.size;
  for (const name of pages[0].gone) told.queues.delete(name);
  for (const page of pages) for (const queue of page.queues) told.queues.set(queue.name, queue);
  told.since = pages[0].changes;
  const changed = pages[0].gone.length > 0 || pages.some((page) => page.queues.length > 0);
  if (changed || pages[0].whole || before !== told.queues.size) told.sorted = [...told.queues.values()].sort((one, other) => (one.name < other.name ? -1 : 1));
  return told.sorted;
}

/**
 * Jobs that fit, newest first. The server looks at a bounded number of jobs a request, so what is rare is looked for in several.
 * limit: how many; looks: how many requests at most; most: how many there can be. Answers {jobs, cursor}; a cursor means that there may
 * be more.
 */
export async function list(filter, { limit = 50, looks = 10, cursor = null, most = Infinity } = {}) {
  const jobs = [];
  do {
    const query = new URLSearchParams({ ...filter, limit: String(limit - jobs.length) });
    if (cursor !== null) query.set("cursor", cursor);
    const page = await call("GET", `jobs?${query}`);
    jobs.push(...page.jobs);
    cursor = page.cursor;
  } while (cursor !== null && jobs.length < Math.min(limit, most) && --looks > 0);
  return { jobs, cursor: jobs.length < most ? cursor : null };
}
