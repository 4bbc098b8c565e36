// The one way to the server: the public native API, with the token of whoever looks.

import { fields, noteDate } from "./format.js";

const NATIVE = document.querySelector("meta[name=jobqueue-native]").content;
const ASKED_FOR = document.querySelector("meta[name=jobqueue-token]").content === "needed";
const KEPT = "jobqueue-token";
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

/** The headers of every request. */
export function headers() {
  const token = sessionStorage.getItem(KEPT);
  return token === null ? {} : { Authorization: `Bearer ${token}` };
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
  return undone ? `${kind}/-${operation}?${kind === "jobs" ? "id" : "name"}=${text}` : `${kind}/${text}${operation}`;
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
  const [answer, text] = await ask(method, address(path), body);
  if (answer.ok) return text === "" ? null : parsed(text);
  if (answer.status === 401) {
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

/** Sign in with a token, or see whether one is needed at all. Raises Refused. */
export async function signIn(token) {
  if (token !== undefined) sessionStorage.setItem(KEPT, token);
  else if (ASKED_FOR && sessionStorage.getItem(KEPT) === null) {
    // Known without asking; a refusal would stand in the console as an error.
    who.needed = true;
    return;
  }
  try {
    const told = await call("GET", "token");
    Object.assign(who, { known: true, needed: false, name: told.name, scopes: new Set(told.scopes), queues: told.queues });
  } catch (error) {
    if (error.status === 401) sessionStorage.removeItem(KEPT);
    throw error;
  }
}

/** Forget the token. */
export function signOut() {
  sessionStorage.removeItem(KEPT);
  Object.assign(who, { known: false, needed: true, name: null, scopes: new Set() });
}

/** Whether the token has a scope. */
export const may = (scope) => who.scopes.has(scope);

/** Every queue, by name, and how many requests that took: the server tells of a thousand in one. */
export async function queues() {
  const found = [];
  let pages = 0;
  let cursor = null;
  do {
    const page = await call("GET", cursor === null ? "queues" : `queues?${new URLSearchParams({ cursor })}`);
    found.push(...page.queues);
    cursor = page.cursor;
    pages += 1;
  } while (cursor !== null);
  return { queues: found, pages };
}

/**
 * Jobs that fit, newest first. The server looks at a bounded number of jobs a request, so what is rare is looked for in several.
 * limit: how many; looks: how many requests at most. Answers {jobs, cursor}; a cursor means that there may be more.
 */
export async function list(filter, { limit = 50, looks = 10, cursor = null } = {}) {
  const jobs = [];
  do {
    const query = new URLSearchParams({ ...filter, limit: String(limit - jobs.length) });
    if (cursor !== null) query.set("cursor", cursor);
    const page = await call("GET", `jobs?${query}`);
    jobs.push(...page.jobs);
    cursor = page.cursor;
  } while (cursor !== null && jobs.length < limit && --looks > 0);
  return { jobs, cursor };
}
