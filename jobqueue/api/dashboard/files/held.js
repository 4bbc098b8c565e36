// What holds jobs back, in words: why one job waits, and how many of a queue's do.

import { age, count, since, span, time } from "./format.js";
import { jobLink, queueLink } from "./parts.js";
import { h } from "./view.js";

const HELD = {
  order: "behind a job of their key",
  halted: "behind a failed job of their key",
  paused: "by a paused key",
  concurrency: "by a concurrency limit",
  rate: "by a rate",
};

/** Whether a queue's policy may hold jobs back: by a limit of its own, or by key. */
export const limits = ({ concurrency, rate, per_key: perKey, fair }) => concurrency !== null || rate !== null || perKey !== null || fair;

/** Queued jobs that may go as soon as somebody takes them, a pause of the queue aside. */
export const ready = (queue) => queue.queued - queue.held;

/** How many of what is queued is held back, and by what: "12 of 20 queued are held: 10 by a rate, 2 by a paused key". */
export function heldWords(queue) {
  const parts = Object.keys(HELD).filter((reason) => queue.held_by[reason] > 0);
  const all = `${count(queue.held)} of ${count(queue.queued)} queued ${queue.held === 1 ? "is" : "are"} held`;
  if (parts.length === 1) return `${all} ${HELD[parts[0]]}`;
  return `${all}: ${parts.map((reason) => `${count(queue.held_by[reason])} ${HELD[reason]}`).join(", ")}`;
}

/** The same as a small line under the word Limited or Halted. */
export const heldNote = (queue) => h("span", { key: "held", class: "note" }, Object.keys(HELD).filter((reason) => queue.held_by[reason] > 0).map((reason) => `${count(queue.held_by[reason])} ${HELD[reason]}`).join(", "));

/** Who paused it and when, as far as that is known: "paused by ann 3 min ago". Of a queue, a key or a schedule. */
export const pausedWords = (it) => ["paused", ...ago(it)].join(" ");

/** The same as a small line under the word Paused; nothing where it is not paused, or the server does not know. */
export const pausedNote = (it) => (ago(it).length === 0 ? null : h("span", { key: "paused", class: "note", title: time(it.paused_at) }, ago(it).join(" ")));

const ago = ({ paused_at: at, paused_by: by }) => (at === null ? [] : [...(by === null ? [] : [`by ${by}`]), `${age(since(at))} ago`]);

/** How much of a limit is used: more than all of it after it was lowered. */
export const usedWords = (used, total) => (used <= total ? `${count(used)} of ${count(total)} in progress` : `${count(used)} in progress, ${count(total)} allowed`);

/** When something happens that may be near: "in 3.2 s", and from a minute on at what time. */
export const soonWords = (stamp) => (-since(stamp) < 60 ? `in ${span(Math.max(0, -since(stamp)))}` : `at ${time(stamp)}`);

/** One reason why a job of a queue waits, as a sentence with links. why: as the API gives it. */
export function sentence(queue, why) {
  const key = h("b", null, why.key);
  const job = why.job === undefined ? null : h("a", { class: "id", href: jobLink(why.job) }, why.job);
  const of = why.key === undefined ? h("a", { href: queueLink(queue) }, queue) : key;
  const kind = why.key === undefined ? "queue" : "key";
  switch (why.reason) {
    case "time":
      return why.until === undefined ? ["It has no start time yet."] : [`It is due ${soonWords(why.until)}.`];
    case "jobs":
      return [`It runs after ${why.jobs.length === 1 ? "a job that has" : "jobs that have"} not ended: `, why.jobs.map((id) => [h("a", { key: id, href: jobLink(id) }, id), " "])];
    case "unique":
      return ["The unique key ", key, " is held: it runs after job ", job, why.worker === undefined ? "" : ` in progress at worker ${why.worker}`, why.until === undefined ? "." : `, and not before ${time(why.until)}.`];
    case "paused":
      return ["The queue ", of, " is paused."];
    case "key":
      return byKey(why, key, job);
    case "concurrency":
      return [`Limit of ${kind} `, of, `: ${usedWords(why.used, why.total)}.`];
    case "rate":
      return [`Rate of ${kind} `, of, `: next slot ${soonWords(why.until)}.`];
    case "line":
      return [why.ahead === 0 ? "It is next in its queue." : why.ahead === 1 ? "1 job is ahead." : `${count(why.ahead)} jobs are ahead.`];
    case "workers":
      return ["No worker waits for queue ", of, why.used === 0 ? ", and none of its jobs is in progress." : why.used === 1 ? "; 1 of its jobs is in progress." : `; ${count(why.used)} of its jobs are in progress.`];
    default:
      return [why.reason];
  }
}

/** Whether nothing holds a job's key back, and only another job of it goes first. */
export const behind = (why) => why.block === "order" && why.until === undefined && why.worker === undefined;

function byKey(why, key, job) {
  if (why.block === "paused") return ["The key ", key, " is paused."];
  if (why.block === "halted") return ["Key ", key, " is halted by the failure of ", job, ", until that is retried or cancelled, or the key is resumed."];
  if (why.worker !== undefined) return ["Key ", key, ": waits for ", job, `, in progress at ${why.worker}, lease until ${time(why.until)}.`];
  if (why.until !== undefined) return ["Key ", key, ": waits for ", job, `, until it runs again or its lease ends, ${soonWords(why.until)}.`];
  return job === null ? ["Key ", key, " waits."] : ["Key ", key, ": ", job, " goes first."];
}

/** What keeps a key's jobs back, in a few words; null: nothing. stats: a row of GET /queues/{name}/keys. */
export function blockWords(stats) {
  const job = stats.holder === null ? null : h("a", { class: "id", href: jobLink(stats.holder) }, stats.holder);
  switch (stats.block) {
    case null:
      return null;
    case "order":
      return job === null ? "another job of the key" : ["waits for ", job];
    case "halted":
      return ["halted by the failure of ", job];
    case "paused":
      return "paused";
    case "concurrency":
      return `${count(stats.in_progress)} in progress, the maximum`;
    default:
      return stats.next_at === null ? "its rate" : `its rate: next slot ${soonWords(stats.next_at)}`;
  }
}

/** A rate in words: "100 in 1 min, 10 at once". */
export const rateWords = ({ limit, per, burst }) => `${count(limit)} in ${span(per)}${burst > 1 ? `, ${count(burst)} at once` : ""}`;
