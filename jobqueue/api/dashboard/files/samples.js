// What the page itself saw in the last minutes: the server says how things are, rates come from the differences.

import { now } from "./format.js";
import { History } from "./history.js";

const KEPT_SECONDS = 300;
const RATE_SECONDS = 10;
const HISTORIES = 20;
/** Queues of which the charts are remembered. */

const TOTALS = ["enqueued", "succeeded", "failed", "cancelled", "expired", "attempts_failed"];

const zero = () => ({ enqueued: 0, succeeded: 0, failed: 0, cancelled: 0, expired: 0, dequeued: 0, attempts_failed: 0 });

/** Jobs a second that left: whatever the outcome. */
const left = (totals) => totals.succeeded + totals.failed + totals.cancelled + totals.expired;

export class Samples {
  constructor() {
    this.points = [];
    this.recent = [];
    this.histories = new Map();
  }

  /** Take in the server's queues as they are now. */
  add(queues) {
    const at = now() / 1000;
    const totals = new Map(queues.map((queue) => [queue.name, queue.totals]));
    const sum = zero();
    const depth = { queued: 0, in_progress: 0 };
    for (const queue of queues) {
      for (const name of Object.keys(sum)) sum[name] += queue.totals[name];
      for (const name of Object.keys(depth)) depth[name] += queue[name];
    }
    const before = this.recent.at(-2);
    // Events may make the page look several times a second; a sample a second is enough, the newest of them always.
    if (before !== undefined && at - before.at < 1) this.recent.pop();
    this.recent.push({ at, totals, sum });
    while (this.recent.length > 2 && this.recent[1].at < at - RATE_SECONDS) this.recent.shift();
    const rates = this.between(this.recent[0], { at, sum }, 0.5);
    if (this.points.length > 1 && at - this.points.at(-2).at < 1) this.points.pop();
    this.points.push({ at, in: rates?.in ?? null, out: rates?.out ?? null, failed: rates?.failed ?? null, attempts: rates?.attempts ?? null, ...depth });
    this.points = this.points.filter((point) => point.at > at - KEPT_SECONDS - 10);
  }

  between(older, newer, least) {
    if (older === undefined || newer.at - older.at < least) return null;
    // Counts that fell are those of a server that started again, or of a queue that was deleted.
    if (TOTALS.some((name) => newer.sum[name] < older.sum[name])) return null;
    const rate = (before, after) => (after - before) / (newer.at - older.at);
    return {
      in: rate(older.sum.enqueued, newer.sum.enqueued),
      out: rate(left(older.sum), left(newer.sum)),
      failed: rate(older.sum.failed, newer.sum.failed),
      attempts: rate(older.sum.attempts_failed, newer.sum.attempts_failed),
    };
  }

  /** {in, out, failed, attempts} in jobs a second over the last ten seconds; null before there are two samples. */
  rates(queue) {
    const newest = this.recent.at(-1);
    if (queue === undefined) return this.between(this.recent[0], newest, 0.5);
    const seen = this.recent.find((sample) => sample.totals.has(queue.name));
    if (seen === undefined) return null;
    return this.between({ at: seen.at, sum: seen.totals.get(queue.name) }, { at: newest.at, sum: queue.totals }, 0.5);
  }

  /** The charts of a queue, or of all: null. */
  history(context, queue) {
    const kept = this.histories.get(queue) ?? new History(context, queue);
    this.histories.delete(queue);
    this.histories.set(queue, kept);
    if (this.histories.size > HISTORIES) this.histories.delete(this.histories.keys().next().value);
    return kept;
  }

  forget() {
    Object.assign(this, { points: [], recent: [] });
    this.histories.clear();
  }
}
