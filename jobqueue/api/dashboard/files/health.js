// What an operator wants to know first: is anything failing, backing up, or without workers?

import { list } from "./api.js";
import { age, count, since } from "./format.js";
import { heldWords, pausedWords, ready } from "./held.js";

const OLD_SECONDS = 60;
const KEPT = 8;
const LEVELS = ["bad", "warn", "ok", "idle"];

/** How many jobs or attempts must fail within five minutes before it is more than one that went wrong. */
const MANY = 2;

const jobs = (number) => (number === 1 ? "1 job" : `${count(number)} jobs`);

/** What fails. The server counts it when it happens, so it is known however many jobs there are. */
function failing({ failures }) {
  const { jobs_5m: lately, jobs_60m: hour, attempts_5m: attempts, retrying } = failures;
  const found = [];
  if (lately > 0) found.push({ level: lately >= MANY ? "bad" : "ok", word: lately >= MANY ? "Failing" : "1 failed", why: `${count(lately)} failed in the last 5 min`, number: lately });
  else if (hour >= MANY) found.push({ level: "warn", word: "Failed", why: `${count(hour)} failed in the last hour`, number: hour });
  const again = attempts - lately;
  const waiting = retrying > 0 ? `${jobs(retrying)} to be tried again` : "";
  // One phrase for both, since the attempts include the last one of each job that failed.
  if (lately >= MANY && again >= MANY) found[0].why = `${jobs(lately)} and ${count(attempts)} attempts failed in the last 5 min${waiting === "" ? "" : `, ${waiting}`}`;
  else if (again >= MANY) found.push({ level: "warn", word: "Retrying", why: `${count(attempts)} attempts failed in the last 5 min${waiting === "" ? "" : `, ${waiting}`}`, number: again });
  else if (retrying > 0) found.push({ level: "ok", word: "Retrying", why: waiting, number: retrying });
  return found;
}

/** What keeps jobs waiting. */
function waiting(queue, oldest) {
  const { policy, queued } = queue;
  if (policy.paused) {
    const old = queued > 0 && oldest > OLD_SECONDS ? `, the oldest for ${age(oldest)}` : "";
    return [{ level: queued > 0 ? "warn" : "idle", word: "Paused", why: `${pausedWords(queue)} with ${count(queued)} queued${old}`, number: queued }];
  }
  const found = [];
  // More workers help only what may go.
  const idle = ready(queue) > 0 && queue.waiters === 0 && queue.in_progress === 0;
  if (idle) found.push({ level: "warn", word: "No workers", why: `${count(ready(queue))} queued and no worker takes them`, number: ready(queue) });
  const halted = queue.held_by.halted > 0;
  const limited = queue.held > 0 && queue.held >= ready(queue);
  if (halted) found.push({ level: "warn", word: "Halted", why: heldWords(queue), number: queue.held });
  // A limit does what it is there for. Whether a paused key is forgotten, nobody knows.
  else if (limited) found.push({ level: queue.held_by.paused > 0 ? "warn" : "ok", word: "Limited", why: heldWords(queue), number: queue.held });
  if (queued > 0 && !limited && oldest > OLD_SECONDS) found.push({ level: "warn", word: "Backing up", why: `the oldest job has waited ${age(oldest)}`, number: queued });
  return found;
}

/**
 * How a queue is. level: bad, warn, ok or idle; word: the one word for it; why: every reason that holds, the worst first; number: how many
 * jobs or attempts the worst is about; oldest: how many seconds the oldest queued job has waited.
 */
export function state(queue) {
  const oldest = since(queue.oldest_queued_at) ?? 0;
  const found = [...failing(queue), ...waiting(queue, oldest)].sort((one, other) => LEVELS.indexOf(one.level) - LEVELS.indexOf(other.level) || other.number - one.number);
  if (found.length === 0) {
    const busy = queue.queued + queue.in_progress + queue.scheduled + queue.waiters > 0;
    return { level: busy ? "ok" : "idle", word: busy ? "Well" : "Idle", why: "", number: 0, oldest };
  }
  // Whoever paused a queue has to see that it is, whatever else it does.
  const word = queue.policy.paused ? "Paused" : found[0].word;
  return { level: found[0].level, word, why: found.map((reason) => reason.why).join("; "), number: found[0].number, oldest };
}

/** Which of two states is the worse one: by level, by how many jobs, by age. For sort. */
export function worse(one, other) {
  const level = LEVELS.indexOf(one.level) - LEVELS.indexOf(other.level);
  return level || (one.level === "bad" || one.level === "warn" ? other.number - one.number || other.oldest - one.oldest : 0);
}

/** The jobs that failed last, by when they failed, read again whenever there are more. */
export class Failures {
  jobs = [];
  total = -1;

  async look(queues) {
    const total = queues.reduce((sum, queue) => sum + queue.totals.failed, 0);
    // Totals begin anew with the server, history need not: so it is asked once even if nothing was counted.
    if (total === this.total) return;
    this.jobs = (await list({ outcome: "failed", order: "concluded" }, { limit: KEPT, looks: 3 })).jobs;
    this.total = total;
  }
}
