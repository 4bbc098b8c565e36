// What holds a queue's jobs back: its limits as used of total, and its keys, those first that hold most up.

import { call, may } from "./api.js";
import { count } from "./format.js";
import { blockWords, heldWords, limits, pausedNote, rateWords, soonWords } from "./held.js";
import { attempt, button, number, sure, table } from "./parts.js";
import { h } from "./view.js";

const FEW = 8;
const MANY = 200;

const ORDERS = { fifo: "one at a time, in order", halt: "one at a time; a failure halts the key" };

const COLUMNS = [
  { label: "Key", kind: "row" },
  { label: "Held back by", kind: "wide" },
  { label: "Queued", kind: "number" },
  { label: "In progress", kind: "number" },
  { label: "Scheduled", kind: "number" },
];

/** A bar of what is used of a total. */
function meter(label, used, total) {
  const percent = Math.min(100, Math.round((100 * used) / total));
  const text = used <= total ? `${count(used)} of ${count(total)}` : `${count(used)}, ${count(total)} allowed`;
  return h(
    "span",
    { class: used >= total ? "meter full" : "meter", role: "meter", "aria-label": label, "aria-valuemin": "0", "aria-valuemax": String(total), "aria-valuenow": String(Math.min(used, total)), "aria-valuetext": text },
    h("span", { class: "track" }, h("span", { class: "bar", style: { width: `${percent}%` } })),
    h("span", { class: "amount" }, text),
  );
}

export class QueueLimits {
  constructor(context, name) {
    this.context = context;
    this.name = name;
    this.most = FEW;
    this.keys = null;
    this.more = false;
  }

  path(key, operation) {
    // A key may hold anything that prints; in the query no proxy undoes it.
    return `queues/${encodeURIComponent(this.name)}/keys/-/${operation}?${new URLSearchParams({ key })}`;
  }

  async look(queue) {
    if (queue === undefined || (queue.policy.per_key === null && !queue.policy.fair && queue.keys === 0)) {
      Object.assign(this, { keys: null, more: false });
      return;
    }
    const page = await call("GET", `queues/${encodeURIComponent(this.name)}/keys?limit=${this.most}`);
    Object.assign(this, { keys: page.keys, more: page.cursor !== null });
  }

  /** The panels of a queue; said: what its heading says already; link: where the jobs of a key are shown. */
  draw(queue, said, link) {
    return limits(queue.policy) || queue.keys > 0 ? [this.used(queue, said), this.table(queue, link)] : null;
  }

  used(queue, said) {
    const { policy } = queue;
    const { concurrency, rate, per_key: perKey, fair, weights } = policy;
    const pair = (label, value) => h("div", { key: label }, h("dt", null, label), h("dd", null, value));
    const each = perKey === null ? [] : [ORDERS[perKey.order], perKey.concurrency === null || perKey.order !== "none" ? null : `${count(perKey.concurrency)} in progress at most`, perKey.rate === null ? null : rateWords(perKey.rate), perKey.max_jobs === null ? null : `${count(perKey.max_jobs)} jobs at most`].filter(Boolean);
    const weighed = Object.keys(weights).length;
    return h(
      "section",
      { class: "panel", "aria-label": "Limits" },
      h("div", { class: "head" }, h("h2", null, "Limits"), h("span", { class: "soft" }, queue.held === 0 ? "nothing is held back" : heldWords(queue) === said ? null : heldWords(queue))),
      h("dl", { class: "limits" }, [
        concurrency === null ? null : pair("In progress", meter("Jobs in progress, of the maximum", queue.in_progress, concurrency)),
        rate === null ? null : pair("Rate", `${rateWords(rate)}; ${queue.rate_next_at === null ? "a slot is free" : `next slot ${soonWords(queue.rate_next_at)}`}`),
        each.length === 0 ? null : pair("Each key", each.join("; ")),
        fair ? pair("Fair", weighed === 0 ? "all keys equally" : `by weight, ${count(weighed)} ${weighed === 1 ? "key" : "keys"} listed`) : null,
        queue.keys > 0 || perKey !== null || fair ? pair("Keys", count(queue.keys)) : null,
      ]),
    );
  }

  table(queue, link) {
    if (this.keys === null || this.keys.length === 0) return null;
    const columns = may("admin") ? [...COLUMNS, { label: "", kind: "acts" }] : COLUMNS;
    const rows = this.keys.map((stats) => {
      const block = blockWords(stats);
      const cells = [h("a", { href: link(stats.key) }, stats.key), block === null ? h("span", { class: "soft" }, "–") : [h("span", { key: "block", class: stats.block === "halted" ? "error" : null }, block), pausedNote(stats)], number(stats.queued), number(stats.in_progress), number(stats.scheduled)];
      return { key: stats.key, cells: may("admin") ? [...cells, this.act(stats)] : cells };
    });
    const further = button("Show more keys", () => {
      this.most = MANY;
      this.context.again();
    }, { kind: "small" });
    return h(
      "section",
      { class: "panel keys", "aria-label": "Keys" },
      h("div", { class: "head" }, h("h2", null, "Keys"), h("span", { class: "soft" }, this.more ? `the ${count(this.keys.length)} that hold back the most jobs` : "those that hold back the most jobs first"), this.more && this.most < MANY ? further : null),
      table({ label: "Keys", columns, rows }),
    );
  }

  act(stats) {
    const { key } = stats;
    const pause = async () => {
      if (await sure(`Pause the key ${key}?`, "None of its jobs is handed out until it is resumed. Jobs are still accepted, and those in progress go on.", "Pause")) (await attempt(`Paused ${key}`, () => call("POST", this.path(key, "pause")))) && this.context.again();
    };
    const resume = async () => {
      const text = stats.block === "halted" ? `The job ${stats.holder} stays failed, and the jobs behind it go on.` : "Its jobs are handed out again, at once.";
      if (await sure(`Resume the key ${key}?`, text, "Resume")) (await attempt(`Resumed ${key}`, () => call("POST", this.path(key, "resume")))) && this.context.again();
    };
    return stats.paused || stats.block === "halted" ? button("Resume", resume, { kind: "small", "aria-label": `Resume ${key}` }) : button("Pause", pause, { kind: "small", "aria-label": `Pause ${key}` });
  }
}
