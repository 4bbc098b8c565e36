import { randomUUID } from "node:crypto";
import { hostname } from "node:os";
import { setTimeout as pause } from "node:timers/promises";

import { Client, isPassing, pauseBefore } from "./client.js";
import { Discard, QueueError, Stopped } from "./errors.js";

const OVER = new Set(["lease_lost", "not_in_progress", "unknown_job"]); // the lease is no longer ours
const HELD_SECONDS = 50;
const HEARTBEAT_SECONDS_MAX = 5; // so that a cancel is noticed soon
const GIVEN_BACK_SECONDS_MAX = 2; // for interrupted handlers to return

/** An attempt that runs: the job as it came, a signal, and what a handler may say about its progress. */
class Attempt {
  #stop = new AbortController();
  told = {}; // what the handler said last: sent with each heartbeat
  released = false;

  constructor(job) {
    this.id = job.id;
    this.lease = job.lease.token;
    this.job = Object.assign(job, {
      signal: this.#stop.signal,
      report: (progress, message) => void (this.told = { progress, message }),
    });
  }

  get stopped() {
    return this.#stop.signal.aborted ? this.#stop.signal.reason.code : null;
  }

  stop(code, message) {
    this.#stop.abort(new Stopped(code, message));
  }
}

function errorOf(thrown) {
  if (!(thrown instanceof Error)) return { type: typeof thrown, message: String(thrown) };
  return { type: thrown.name, message: thrown.message };
}

export class Worker {
  #client;
  #handler;
  #options;
  #running = new Set();
  #ended = deferred();
  #stopping = new AbortController();
  #stopped = new Promise((resolve) => this.#stopping.signal.addEventListener("abort", resolve, { once: true }));
  #freed = deferred();
  #taking = null; // the attempt_id of the dequeue that is held
  #started = false;

  constructor(client, options, handler) {
    this.#client = client instanceof Client ? client : new Client(client);
    const { queue = "default", concurrency = 1, lease_seconds = 60, name, version, log = console.error } = options;
    if (!Number.isInteger(concurrency) || concurrency < 1) throw new RangeError(`concurrency: must be an integer from 1 on, not ${concurrency}`);
    if (!(lease_seconds >= 1)) throw new RangeError(`lease_seconds: must be 1 or more, not ${lease_seconds}`);
    if (typeof handler !== "function") throw new TypeError("handler: must be a function");
    this.name = name ?? `${hostname()}:${process.pid}:${randomUUID().slice(0, 8)}`;
    this.#options = { queue, concurrency, lease_seconds, version, log };
    this.#handler = handler;
  }

  /** How many jobs it works on now. */
  get running() {
    return this.#running.size;
  }

  /** Begin to take jobs. */
  start() {
    if (this.#started) throw new Error("the worker was started already");
    this.#started = true;
    this.#takeJobs().then(this.#ended.resolve, (error) => {
      this.#stopping.abort();
      this.#ended.reject(error);
    });
    this.#ended.promise.catch(() => {});
  }

  /** Resolves when the worker was stopped; rejects when the server refuses it, as with a wrong token. */
  async ended() {
    await this.#ended.promise;
  }

  /** Work until SIGTERM or SIGINT. Running jobs may then finish within `grace_seconds`; a second signal gives them back at once. */
  async run({ grace_seconds = 30 } = {}) {
    let signals = 0;
    const onSignal = () => void this.stop({ grace_seconds: ++signals === 1 ? grace_seconds : 0 }).catch(() => {});
    const names = ["SIGTERM", "SIGINT"];
    names.forEach((name) => process.on(name, onSignal));
    try {
      this.start();
      await this.ended().finally(() => this.stop({ grace_seconds }));
    } finally {
      names.forEach((name) => process.off(name, onSignal));
    }
  }

  /** Take no more, give back what was not begun, let running jobs finish. What still runs after `grace_seconds` is interrupted and given back. */
  async stop({ grace_seconds = 30 } = {}) {
    if (!this.#stopping.signal.aborted) {
      this.#stopping.abort();
      await this.#endTaking();
    }
    if (this.#started) await this.#ended.promise.catch(() => {});
    await within(grace_seconds, this.#finished());
    const left = [...this.#running];
    await Promise.all(left.map((attempt) => this.#interrupt(attempt)));
    await within(GIVEN_BACK_SECONDS_MAX, this.#finished());
  }

  async #finished() {
    while (this.#running.size) await this.#freed.promise;
  }

  /** A repeat that does not wait ends the dequeue that is held, and is answered the job that this one may have been answered by now. */
  async #endTaking() {
    if (this.#taking === null) return;
    const { id, abort } = this.#taking;
    try {
      const { answer: job } = await this.#dequeue(id, 0);
      if (job !== null) await this.#giveBack(job);
    } catch (error) {
      this.#options.log(`worker ${this.name}: ${error.message}`);
    } finally {
      abort.abort(new Stopped("stopping", "the worker stops"));
    }
  }

  async #takeJobs() {
    for (let failures = 0; !this.#stopping.signal.aborted; ) {
      if (this.#running.size >= this.#options.concurrency) {
        await Promise.race([this.#freed.promise, this.#stopped]);
        continue;
      }
      try {
        const { answer: job, retryAfter } = await this.#take();
        failures = 0;
        if (job === null && retryAfter) await this.#pause(retryAfter); // told to be quiet, or the server shuts down
        else if (job !== null && this.#stopping.signal.aborted) await this.#giveBack(job);
        else if (job !== null) this.#begin(job);
      } catch (error) {
        if (this.#stopping.signal.aborted) return;
        if (!isPassing(error)) throw error;
        if (failures === 0) this.#options.log(`worker ${this.name}: ${error.message}; trying again`);
        await this.#pause(pauseBefore(failures++, error));
      }
    }
  }

  async #take() {
    this.#taking = { id: randomUUID(), abort: new AbortController() };
    try {
      return await this.#client.held(HELD_SECONDS, (wait) => this.#dequeue(this.#taking.id, wait, this.#taking.abort.signal));
    } finally {
      this.#taking = null;
    }
  }

  #dequeue(attempt_id, wait, signal) {
    const { queue, concurrency, lease_seconds, version } = this.#options;
    const body = { queue, wait, lease_seconds, worker: this.name, attempt_id, host: hostname(), concurrency, version };
    return this.#client.call("dequeue", { body, wait, signal, tries: 3 });
  }

  #pause(seconds) {
    return pause(seconds * 1000, undefined, { signal: this.#stopping.signal }).catch(() => {});
  }

  async #giveBack(job) {
    await this.#client.release(job.id, job.lease.token).catch((error) => this.#notTold(job.id, error));
  }

  #notTold(id, error) {
    // The lease of a job that could not be given back or concluded ends by itself, and the job is handed out again.
    if (!(error instanceof QueueError && OVER.has(error.code))) this.#options.log(`worker ${this.name}: job ${id}: ${error.message}`);
  }

  #begin(job) {
    const attempt = new Attempt(job);
    this.#running.add(attempt);
    this.#work(attempt)
      .catch((error) => this.#notTold(attempt.id, error))
      .finally(() => {
        this.#running.delete(attempt);
        this.#freed.resolve();
        this.#freed = deferred();
      });
  }

  async #work(attempt) {
    const working = new AbortController();
    const beating = this.#beat(attempt, working.signal);
    try {
      const ending = await this.#handle(attempt);
      if (attempt.released || attempt.stopped === "lease_lost") return;
      await this.#conclude(attempt, ending);
    } finally {
      working.abort();
      await beating;
    }
  }

  async #handle(attempt) {
    try {
      const result = await this.#handler(attempt.job);
      return { outcome: "succeeded", late: true, ...(result !== undefined && { result }) };
    } catch (error) {
      if (attempt.stopped === null) this.#options.log(`worker ${this.name}: job ${attempt.id}, attempt ${attempt.job.attempts}: ${errorOf(error).type}: ${errorOf(error).message}`);
      return { outcome: "failed", error: errorOf(error), retry: !(error instanceof Discard) };
    }
  }

  async #conclude(attempt, ending) {
    const { id, lease } = attempt;
    // A server that is away may be back in time: heartbeats go on until it has been told.
    const call = { id, signal: AbortSignal.timeout(Math.ceil(this.#options.lease_seconds * 1000)), tries: Infinity };
    try {
      await this.#client.call("conclude", { ...call, body: { lease, ...ending } });
    } catch (error) {
      // A result that is no JSON, or that the server refuses as too large or too deep, is a failure of the job.
      const refused = error instanceof TypeError || (error instanceof QueueError && (error.field === "result" || error.field === "error"));
      if (!refused) throw error;
      await this.#client.call("conclude", { ...call, body: { lease, outcome: "failed", error: errorOf(error) } });
    }
  }

  /** Extend the lease three times within its length, until the work is done. */
  async #beat(attempt, done) {
    const { lease_seconds } = this.#options;
    const every = Math.min(lease_seconds / 3, HEARTBEAT_SECONDS_MAX) * 1000;
    while (await pause(every, true, { signal: done }).catch(() => false)) {
      try {
        const body = { lease: attempt.lease, lease_seconds, ...attempt.told };
        const { answer } = await this.#client.call("extend", { id: attempt.id, body, signal: done, tries: 1 });
        if (answer.cancel_requested) attempt.stop("cancelled", "the job is to be cancelled");
      } catch (error) {
        if (done.aborted) return;
        if (error instanceof QueueError && OVER.has(error.code)) return attempt.stop("lease_lost", error.message);
        this.#options.log(`worker ${this.name}: job ${attempt.id}: heartbeat: ${error.message}`);
      }
    }
  }

  async #interrupt(attempt) {
    attempt.released = true;
    attempt.stop("stopping", "the worker stops");
    await this.#giveBack({ id: attempt.id, lease: { token: attempt.lease } });
  }
}

function deferred() {
  let resolve, reject;
  const promise = new Promise((yes, no) => ([resolve, reject] = [yes, no]));
  return { promise, resolve, reject };
}

async function within(seconds, promise) {
  const timer = new AbortController();
  const limit = seconds === Infinity ? new Promise(() => {}) : pause(seconds * 1000, undefined, { signal: timer.signal }).catch(() => {});
  await Promise.race([promise, limit]);
  timer.abort();
}
