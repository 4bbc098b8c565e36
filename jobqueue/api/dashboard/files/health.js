// What an operator wants to know first: is anything failing, backing up, or without workers?

import { list } from "./api.js";
import { age, count, since } from "./format.js";
import { heldWords, ready } from "./held.js";

const OLD_SECONDS = 60;

/** How a queue is: level bad, warn, ok or idle; the word for it; the sentence that says why. failed: jobs that failed lately. */
export function state(queue, failed) {
  const oldest = since(queue.oldest_queued_at);
  const halted = queue.held_by.halted ?? 0;
  if (failed > 0) {
    return { level: "bad", word: "Failing", why: `${count(failed)} failed in the last 5 min${halted > 0 ? `; ${heldWords(queue)}` : ""}` };
  }
  if (queue.policy.paused) {
    return { level: queue.queued > 0 ? "warn" : "idle", word: "Paused", why: `paused with ${count(queue.queued)} queued` };
  }
  // More workers help only what may go.
  if (ready(queue) > 0 && queue.waiters === 0 && queue.in_progress === 0) {
    return { level: "warn", word: "No workers", why: `${count(ready(queue))} queued and nobody takes them` };
  }
  if (halted > 0) return { level: "warn", word: "Halted", why: heldWords(queue) };
  if (queue.held > 0 && queue.held >= ready(queue)) {
    // A limit does what it is there for. Whether a paused key is forgotten, nobody knows.
    return { level: queue.held_by.paused > 0 ? "warn" : "ok", word: "Limited", why: heldWords(queue) };
  }
  if (queue.queued > 0 && oldest > OLD_SECONDS) return { level: "warn", word: "Backing up", why: `the oldest job has waited ${age(oldest)}` };
  const busy = queue.queued + queue.in_progress + queue.scheduled + queue.waiters > 0;
  return busy ? { level: "ok", word: "Well", why: "" } : { level: "idle", word: "Idle", why: "" };
}

/** The jobs that failed last, read again whenever there are more. */
export class Failures {
  jobs = [];
  total = -1;

  async look(queues) {
    const total = queues.reduce((sum, queue) => sum + queue.totals.failed, 0);
    if (total === this.total) return;
    // Newest by creation; the server bounds how far back one request looks, so a few may be needed. Totals begin anew with the server,
    // history need not: so it is asked once even if nothing was counted.
    this.jobs = (await list({ outcome: "failed" }, { limit: 50, looks: 3 })).jobs;
    this.jobs.sort((one, other) => Date.parse(other.concluded_at) - Date.parse(one.concluded_at));
    this.total = total;
  }
}

/** Failures of the last five minutes by queue: what the page counted itself, or what it found in history when it was opened. */
export function failedLately(queue, samples, recent) {
  const found = recent.filter((job) => job.queue === queue.name && since(job.concluded_at) < 300).length;
  return Math.max(found, samples.failed(queue));
}
