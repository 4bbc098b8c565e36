// What the page remembers of the last minutes: the server tells how things are, rates come from the differences.

import { now } from "./format.js";

const KEPT_SECONDS = 300;
const RATE_SECONDS = 10;
const KEPT = "jobqueue-samples";
const TOTALS = ["enqueued", "succeeded", "failed", "cancelled", "expired"];

const zero = () => ({ enqueued: 0, succeeded: 0, failed: 0, cancelled: 0, expired: 0, dequeued: 0 });

/** Jobs a second that left: whatever the outcome. */
const left = (totals) => totals.succeeded + totals.failed + totals.cancelled + totals.expired;

export class Samples {
  constructor() {
    this.points = [];
    this.recent = [];
    this.failures = [];
    this.pickups = new Map();
    this.restore();
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
    this.points.push({ at, in: rates?.in ?? null, out: rates?.out ?? null, failed: rates?.failed ?? null, ...depth });
    this.points = this.points.filter((point) => point.at > at - KEPT_SECONDS - 10);
    // Every ten seconds is often enough for "failed in the last minutes".
    if (this.failures.length === 0 || at - this.failures.at(-1).at >= 10) {
      this.failures.push({ at, failed: new Map(queues.filter((queue) => queue.totals.failed > 0).map((queue) => [queue.name, queue.totals.failed])) });
      while (this.failures.length > 1 && this.failures[0].at < at - KEPT_SECONDS) this.failures.shift();
    }
    this.keep();
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
    };
  }

  /** {in, out, failed} in jobs a second over the last ten seconds; null before there are two samples. */
  rates(queue) {
    const newest = this.recent.at(-1);
    if (queue === undefined) return this.between(this.recent[0], newest, 0.5);
    const seen = this.recent.find((sample) => sample.totals.has(queue.name));
    if (seen === undefined) return null;
    return this.between({ at: seen.at, sum: seen.totals.get(queue.name) }, { at: newest.at, sum: queue.totals }, 0.5);
  }

  /** How many jobs of a queue failed since the oldest sample of the last five minutes. */
  failed(queue) {
    if (this.failures.length === 0) return 0;
    const before = this.failures[0].failed.get(queue.name) ?? 0;
    // A count that fell is that of a server that started again.
    return queue.totals.failed < before ? queue.totals.failed : queue.totals.failed - before;
  }

  /** Note when jobs were taken: those of a first attempt tell how long they waited for it. */
  notePickups(jobs) {
    for (const job of jobs) {
      if (job.attempts !== 1 || job.started_at === null) continue;
      const ready = Math.max(Date.parse(job.created_at), job.run_at === null ? 0 : Date.parse(job.run_at));
      const at = Date.parse(job.started_at) / 1000;
      this.pickups.set(job.number, { at, seconds: Math.max(0, at - ready / 1000) });
    }
    const oldest = now() / 1000 - KEPT_SECONDS - 10;
    for (const [number, pickup] of this.pickups) if (pickup.at < oldest) this.pickups.delete(number);
    while (this.pickups.size > 20_000) this.pickups.delete(this.pickups.keys().next().value);
  }

  /** Columns for a chart of pickup latency: the median and the 95th percentile of every five seconds, in ms. */
  latency() {
    const bins = new Map();
    for (const { at, seconds } of this.pickups.values()) {
      const bin = Math.floor(at / 5) * 5;
      if (!bins.has(bin)) bins.set(bin, []);
      bins.get(bin).push(seconds * 1000);
    }
    const rows = [...bins].sort(([one], [other]) => one - other);
    const part = (values, share) => values.sort((one, other) => one - other)[Math.min(values.length - 1, Math.floor(values.length * share))];
    return [rows.map(([at]) => at), rows.map(([, values]) => part(values, 0.5)), rows.map(([, values]) => part(values, 0.95))];
  }

  /** Columns for a chart of the given names. */
  columns(...names) {
    return [this.points.map((point) => point.at), ...names.map((name) => this.points.map((point) => point[name]))];
  }

  // A reload must not empty the charts. They hold sums only, nothing of any job.

  keep() {
    const at = now();
    if (at - (this.kept ?? 0) < 5000) return;
    this.kept = at;
    try {
      sessionStorage.setItem(KEPT, JSON.stringify(this.points));
    } catch {
      // No room, no matter.
    }
  }

  restore() {
    try {
      const points = JSON.parse(sessionStorage.getItem(KEPT) ?? "[]");
      const oldest = Date.now() / 1000 - KEPT_SECONDS;
      this.points = points.filter((point) => point.at > oldest);
    } catch {
      this.points = [];
    }
  }

  forget() {
    sessionStorage.removeItem(KEPT);
    Object.assign(this, { points: [], recent: [], failures: [] });
    this.pickups.clear();
  }
}
