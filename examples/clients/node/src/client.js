import { randomUUID } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";

import { JobFailed, NoAnswer, QueueError, UnexpectedAnswer, WaitTimeout } from "./errors.js";
import { OPERATIONS } from "./operations.js";

const HELD_SECONDS_MAX = 50; // of one request; the server's own maximum is learned from its answer
const PAUSE_SECONDS = 0.1; // before the second try; doubles
const PAUSE_SECONDS_MAX = 5;
const PASSING = new Set(["draining", "storage_unavailable", "too_many_connections", "too_many_waiters", "rate_limited", "queue_full"]);
const UNSAFE_IN_PATHS = /[/\\%?#;]|^\.\.?$/; // proxies rewrite these: such an id goes into the query

/** Whether the same request may succeed a little later. */
export function isPassing(error) {
  if (error instanceof QueueError) return PASSING.has(error.code);
  if (error instanceof UnexpectedAnswer) return [502, 503, 504].includes(error.status);
  return error instanceof NoAnswer;
}

/** Seconds to wait before the next try: what the server asked for, else doubling, half of it by chance; never above the maximum. */
export function pauseBefore(attempt, error) {
  const doubled = PAUSE_SECONDS * 2 ** Math.min(attempt, 10);
  const wanted = error?.retryAfter ?? doubled * (0.5 + Math.random() / 2);
  return Math.min(PAUSE_SECONDS_MAX, wanted);
}

function seconds(header) {
  return header !== null && /^\d+$/.test(header) ? Number(header) : null;
}

function addressOf(base, operation, id, query) {
  const found = new URLSearchParams(query);
  let path = operation.path;
  if (path.includes("{id}")) {
    const aside = UNSAFE_IN_PATHS.test(id);
    path = path.replace("{id}", () => (aside ? "-" : encodeURIComponent(id)));
    if (aside) found.set("id", id);
  }
  return base + path + (found.size ? `?${found}` : "");
}

export class Client {
  #base;
  #headers;
  #timeout;
  #tries;
  #fetch;
  #heldMax = HELD_SECONDS_MAX;

  constructor(options = {}) {
    const given = typeof options === "string" ? { url: options } : options;
    const { url = process.env.JOBQUEUE_URL ?? "http://127.0.0.1:8080", token = process.env.JOBQUEUE_TOKEN } = given;
    const { timeout = 10, tries = 5, fetch = globalThis.fetch } = given;
    if (!/^https?:\/\//.test(url)) throw new TypeError(`url: must begin with http:// or https://, not ${JSON.stringify(url)}`);
    if (!(timeout > 0)) throw new RangeError(`timeout: must be above 0 seconds, not ${timeout}`);
    if (!(tries >= 1)) throw new RangeError(`tries: must be 1 or more, not ${tries}`);
    this.#base = url.replace(/\/+$/, "");
    this.#headers = token ? { Authorization: `Bearer ${token}` } : {};
    this.#timeout = timeout;
    this.#tries = tries;
    this.#fetch = fetch;
  }

  /** Submit a job. The id makes it safe to repeat: the client makes one if none is given. */
  async enqueue(payload, options = {}) {
    const { answer } = await this.call("enqueue", { body: { id: randomUUID(), payload, ...options } });
    return answer;
  }

  /** Take a job, or null when none came in time. For those who work without a Worker. */
  async dequeue(options = {}) {
    return this.#until(options.wait ?? 20, undefined, (answer) => answer !== null, (wait) => {
      const body = { attempt_id: randomUUID(), ...options, wait };
      return this.call("dequeue", { body, wait });
    });
  }

  /** A heartbeat. */
  async extend(id, lease, options = {}) {
    return (await this.call("extend", { id, body: { lease, ...options } })).answer;
  }

  /** Finish an attempt: `{ outcome: "succeeded", result }` or `{ outcome: "failed", error }`. */
  async conclude(id, lease, ending) {
    return (await this.call("conclude", { id, body: { lease, ...ending } })).answer;
  }

  /** Give a job back. The attempt does not count. */
  async release(id, lease, options = {}) {
    return (await this.call("release", { id, body: { lease, ...options } })).answer;
  }

  /** The job as it is; with a `wait`, once it is concluded or so many seconds have passed. */
  async job(id, { wait = 0, signal } = {}) {
    const ended = (answer) => answer.status === "concluded";
    return this.#until(wait, signal, ended, (held) => this.call("job", { id, query: held > 0 ? { wait: String(held) } : {}, wait: held, signal }));
  }

  /** The result of a job, once it has succeeded. Throws JobFailed if it ended otherwise, WaitTimeout if it has not ended. */
  async result(id, { wait = 60, signal } = {}) {
    const job = await this.job(id, { wait, signal });
    if (job.status !== "concluded") throw new WaitTimeout(id, wait);
    if (job.outcome !== "succeeded") throw new JobFailed(job);
    return job.result;
  }

  /** Cancel a job; one that runs is asked to stop by its next heartbeat. */
  async cancel(id) {
    return (await this.call("cancel", { id })).answer;
  }

  /** Ask to be held so long, in one request; if the server does not hold so long, ask for what it does. */
  async held(wait, ask) {
    const asked = Math.min(wait, this.#heldMax);
    try {
      return await ask(asked);
    } catch (error) {
      const max = error instanceof QueueError && error.field === "wait" ? error.problem.max : null;
      if (typeof max !== "number" || max >= asked) throw error;
      this.#heldMax = max;
      return ask(max);
    }
  }

  /** Ask again and again until there is what was waited for or `wait` seconds have passed; then whatever was answered last. */
  async #until(wait, signal, isThere, ask) {
    const until = performance.now() + wait * 1000;
    for (let left = wait * 1000; ; ) {
      const { answer, retryAfter } = await this.held(left / 1000, ask);
      left = until - performance.now();
      if (isThere(answer) || left <= 0) return answer;
      // A server that shuts down answers at once and says when to come back.
      if (retryAfter !== null) await pause(Math.min(retryAfter * 1000, left), undefined, { signal });
      left = Math.max(0, until - performance.now());
    }
  }

  /** One operation, with as many tries as it takes. Each of them may be repeated: by its id, its attempt_id or its lease. */
  async call(name, { id, query = {}, body, wait = 0, signal, tries = this.#tries }) {
    const operation = OPERATIONS[name];
    const url = addressOf(this.#base, operation, id, query);
    const text = body === undefined ? undefined : JSON.stringify(body); // once: a repeat is the same byte for byte
    for (let attempt = 0; ; attempt++) {
      try {
        return await this.#once(operation, url, text, wait, signal);
      } catch (error) {
        if (signal?.aborted || !isPassing(error) || attempt + 1 >= tries) throw error;
        await pause(pauseBefore(attempt, error) * 1000, undefined, { signal });
      }
    }
  }

  async #once(operation, url, text, wait, signal) {
    const limit = AbortSignal.timeout(Math.ceil((wait + this.#timeout) * 1000));
    const headers = text === undefined ? this.#headers : { ...this.#headers, "Content-Type": "application/json" };
    const request = { method: operation.method, headers, body: text, redirect: "manual", signal: signal ? AbortSignal.any([limit, signal]) : limit };
    let response, said;
    try {
      response = await this.#fetch(url, request);
      said = await response.text();
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      const why = limit.aborted ? `none within ${wait + this.#timeout} s` : (error.cause?.message || error.cause?.code || error.message);
      throw new NoAnswer(`no answer from ${this.#base}: ${why}`, { cause: error });
    }
    const retryAfter = seconds(response.headers.get("Retry-After"));
    if (response.status === 204 && operation.empty) return { answer: null, retryAfter };
    const value = parsed(said);
    if (response.ok && value !== null) return { answer: value, retryAfter };
    if (typeof value?.code === "string" && typeof value.detail === "string") throw new QueueError(value, retryAfter);
    throw new UnexpectedAnswer(`${operation.method} ${url}: unexpected answer ${response.status}: ${said.slice(0, 200)}`, response.status, retryAfter);
  }
}

function parsed(text) {
  try {
    const value = JSON.parse(text);
    return typeof value === "object" ? value : null;
  } catch {
    return null;
  }
}
