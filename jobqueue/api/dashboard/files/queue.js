// One queue: how it is, what may be done to it, its jobs a page at a time.

import { absolute, call, job as jobOf, list, may, place } from "./api.js";
import { age, count, fault, rate, since, span, time } from "./format.js";
import { failedLately, state } from "./health.js";
import { behind, sentence } from "./held.js";
import { QueueLimits } from "./limits.js";
import { attempt, badge, button, commandLine, curl, empty, jobLink, number, queueLink, sure, table } from "./parts.js";
import { editPolicy } from "./policy.js";
import { h } from "./view.js";

const PAGE = 25;
const FILTERS = [
  ["all", "All", {}],
  ["queued", "Queued", { status: "queued" }],
  ["in_progress", "In progress", { status: "in_progress" }],
  ["scheduled", "Scheduled", { status: "scheduled" }],
  ["succeeded", "Succeeded", { outcome: "succeeded" }],
  ["failed", "Failed", { outcome: "failed" }],
  ["cancelled", "Cancelled", { outcome: "cancelled" }],
  ["expired", "Expired", { outcome: "expired" }],
];

const COLUMNS = [
  { label: "Job", kind: "row" },
  { label: "Status", kind: "" },
  { label: "Type", kind: "" },
  { label: "Worker, progress, error", kind: "wide" },
  { label: "Attempts", kind: "number" },
  { label: "Took", kind: "number" },
  { label: "Created", kind: "number" },
];

export class Queue {
  constructor(context, name, query) {
    this.context = context;
    this.name = name;
    this.title = `Queue ${name}`;
    this.shown = FILTERS.some(([key]) => key === query.get("show")) ? query.get("show") : "all";
    this.type = query.get("type") ?? "";
    this.key = query.get("key") ?? "";
    this.limits = new QueueLimits(context, name);
    // The cursors of the pages before, null the first's.
    this.cursors = [null];
    this.page = null;
    this.wrong = null;
  }

  get queue() {
    return this.context.queues.find((queue) => queue.name === this.name);
  }

  async look() {
    const [, , filter] = FILTERS.find(([key]) => key === this.shown);
    const asked = { ...filter, queue: this.name, ...(this.type === "" ? {} : { type: this.type }), ...(this.key === "" ? {} : { key: this.key }) };
    // What jobs wait for is asked where something is held back: it costs the server a look at each.
    if (this.queue?.held > 0) asked.waiting_for = "true";
    await this.limits.look(this.queue);
    this.page = await list(asked, { limit: PAGE, cursor: this.cursors.at(-1) });
  }

  draw() {
    const { queue } = this;
    const head = h("p", { class: "path" }, h("a", { href: "#/" }, "Overview"), " / queue");
    if (queue === undefined) {
      const body = '{"queue": "' + this.name + '", "payload": null}';
      return [head, h("h1", { tabindex: "-1" }, this.name), empty("There is no such queue", h("p", null, "It was deleted, or no job ever named it. The next job makes it:"), commandLine(curl("POST", absolute("jobs/enqueue"), body)))];
    }
    const now = state(queue, failedLately(queue, this.context.samples, this.context.failures.jobs));
    return [
      head,
      h("div", { class: "title-line" }, h("h1", { tabindex: "-1" }, this.name), h("span", { class: `state ${now.level}` }, now.word), h("span", { class: "soft grow" }, now.why), this.actions(queue)),
      this.numbers(queue),
      this.limits.draw(queue, now.why, (key) => this.link({ key })),
      h("section", { class: "panel jobs", "aria-label": "Jobs" }, this.filters(queue), this.search(), this.jobs(), this.pager()),
      this.policy(queue),
    ];
  }

  actions(queue) {
    if (!may("admin")) return null;
    const { name } = this;
    const path = (operation) => place("queues", name, operation);
    const after = async (what, doing) => (await attempt(what, doing)) && this.context.again();
    const pause = async () => {
      if (await sure(`Pause ${name}?`, "It hands out nothing until it is resumed. Jobs are still accepted, and those in progress go on.", "Pause")) await after(`Paused ${name}`, () => call("POST", path("/pause")));
    };
    const resume = async () => {
      if (await sure(`Resume ${name}?`, "It hands out jobs again, at once.", "Resume")) await after(`Resumed ${name}`, () => call("POST", path("/resume")));
    };
    const retry = async () => {
      if (await sure(`Retry what failed in ${name}?`, "Every failed job that history still has is queued again, with all its attempts.", "Retry failed"))
        await after(`Retry of ${name}`, async () => `${count((await call("POST", path("/retry"))).retried)} jobs of ${name} queued again`);
    };
    const purge = async () => {
      const waiting = queue.queued + queue.scheduled;
      if (await sure(`Purge ${name}?`, `All jobs that are queued or scheduled, ${count(waiting)} now, are cancelled. Those in progress go on.`, "Purge", true))
        await after(`Purge of ${name}`, async () => `${count((await call("POST", path("/purge"))).purged)} jobs of ${name} cancelled`);
    };
    return h(
      "div",
      { class: "actions" },
      queue.policy.paused ? button("Resume", resume, { kind: "primary", key: "resume" }) : button("Pause", pause, { key: "pause" }),
      button("Retry failed", retry),
      button("Policy", () => editPolicy(queue).then((changed) => changed && this.context.again())),
      button("Purge", purge, { kind: "danger" }),
    );
  }

  numbers(queue) {
    const rates = this.context.samples.rates(queue);
    const tile = (label, value, kind = "") => h("div", { class: "tile", key: label }, h("dt", null, label), h("dd", { class: kind }, value));
    return h(
      "dl",
      { class: "tiles" },
      tile("Queued", count(queue.queued)),
      tile("In progress", count(queue.in_progress)),
      tile("Scheduled", count(queue.scheduled)),
      tile("Waiters", count(queue.waiters)),
      tile("Oldest queued", age(since(queue.oldest_queued_at))),
      tile("In per second", rate(rates?.in)),
      tile("Out per second", rate(rates?.out)),
      tile("Failed in all", count(queue.totals.failed), queue.totals.failed > 0 ? "bad" : ""),
    );
  }

  filters(queue) {
    const counts = { queued: queue.queued, in_progress: queue.in_progress, scheduled: queue.scheduled };
    return h(
      "nav",
      { class: "tabs", "aria-label": "Jobs by status" },
      FILTERS.map(([key, label]) =>
        h("a", { key, href: this.link({ show: key }), "aria-current": key === this.shown ? "true" : null }, label, key in counts ? h("span", { class: "tally" }, count(counts[key])) : null),
      ),
    );
  }

  link({ show = this.shown, type = this.type, key = this.key }) {
    const query = new URLSearchParams({ ...(show === "all" ? {} : { show }), ...(type === "" ? {} : { type }), ...(key === "" ? {} : { key }) }).toString();
    return `${queueLink(this.name)}${query === "" ? "" : `?${query}`}`;
  }

  search() {
    const find = async (event) => {
      event.preventDefault();
      const wanted = event.target.elements.wanted.value.trim();
      this.wrong = null;
      if (wanted === "") location.hash = this.link({ type: "" });
      else if (await this.isJob(wanted)) location.hash = jobLink(wanted);
      else location.hash = this.link({ type: wanted });
    };
    return h(
      "form",
      { class: "search", role: "search", onsubmit: find },
      h("label", { class: "unseen", for: "wanted" }, "A job's id, or a type"),
      h("input", { id: "wanted", name: "wanted", type: "search", placeholder: "A job’s id, or a type", autocomplete: "off" }),
      h("button", { class: "button", type: "submit" }, "Find"),
      this.type === "" ? null : h("span", { class: "chip" }, "type ", h("b", null, this.type), " ", h("a", { href: this.link({ type: "" }), "aria-label": "Show every type" }, "×")),
      this.key === "" ? null : h("span", { class: "chip" }, "key ", h("b", null, this.key), " ", h("a", { href: this.link({ key: "" }), "aria-label": "Show every key" }, "×")),
    );
  }

  async isJob(id) {
    if (id.length > 128) return false;
    try {
      await jobOf(id);
      return true;
    } catch (error) {
      return false;
    }
  }

  jobs() {
    if (this.page === null) return h("p", { class: "none" }, "Looking…");
    if (this.page.jobs.length > 0) return table({ label: "Jobs", columns: COLUMNS, rows: this.page.jobs.map(row) });
    if (this.page.cursor !== null) return h("p", { class: "none" }, "None among the jobs that were looked at. ", button("Look further", () => this.older(), { kind: "small" }));
    const body = `{"queue": "${this.name}", "payload": {}}`;
    return this.shown === "all" && this.type === "" && this.key === ""
      ? empty("No jobs", h("p", null, "Nothing is in this queue, and history remembers nothing of it. Enqueue a job:"), commandLine(curl("POST", absolute("jobs/enqueue"), body)))
      : h("p", { class: "none" }, "No job of this queue is so.");
  }

  older() {
    this.cursors.push(this.page.cursor);
    this.turned();
  }

  newer() {
    this.cursors.pop();
    this.turned();
  }

  turned() {
    this.page = null;
    this.context.redraw();
    this.context.again();
  }

  pager() {
    const more = this.page !== null && this.page.cursor !== null;
    if (!more && this.cursors.length === 1) return null;
    return h(
      "div",
      { class: "pager" },
      h("span", { class: "soft" }, `Page ${this.cursors.length}, newest first`),
      button("Newer", () => this.newer(), { kind: "small", disabled: this.cursors.length === 1 }),
      button("Older", () => this.older(), { kind: "small", disabled: !more }),
    );
  }

  policy(queue) {
    const { policy, totals } = queue;
    const pair = (label, value) => h("div", { key: label }, h("dt", null, label), h("dd", null, value));
    return h(
      "section",
      { class: "columns" },
      h(
        "section",
        { class: "panel", "aria-label": "Policy" },
        h("div", { class: "head" }, h("h2", null, "Policy")),
        h("dl", { class: "pairs" }, [
          pair("Lease", span(policy.lease_seconds)),
          pair("Attempts at most", count(policy.max_attempts)),
          pair("Backoff", `up to ${span(policy.backoff.base)}, × ${policy.backoff.factor} each time, at most ${span(policy.backoff.cap)}`),
          pair("Jobs at most", policy.max_jobs === null ? "as many as the server holds" : count(policy.max_jobs)),
          pair("Paused", policy.paused ? "yes" : "no"),
        ]),
      ),
      h(
        "section",
        { class: "panel", "aria-label": "Totals" },
        h("div", { class: "head" }, h("h2", null, "Totals"), h("span", { class: "soft" }, "since it was made, or the server started")),
        h("dl", { class: "pairs figures" }, ["enqueued", "dequeued", "redelivered", "retried", "succeeded", "failed", "cancelled", "expired"].map((name) => pair(name[0].toUpperCase() + name.slice(1), number(totals[name])))),
      ),
    );
  }
}

function row(job) {
  return {
    key: job.id,
    cells: [
      h("a", { class: "id", href: jobLink(job.id) }, job.id),
      badge(job),
      job.type ?? h("span", { class: "soft" }, "–"),
      news(job),
      job.attempts === 0 ? h("span", { class: "zero" }, "0") : count(job.attempts),
      took(job),
      h("span", { title: time(job.created_at) }, `${age(since(job.created_at))} ago`),
    ],
  };
}

/** What is worth knowing of a job in its status. */
function news(job) {
  if (job.status === "in_progress") {
    return h("span", { class: "news" }, job.progress === null ? null : [progress(job), " "], h("span", null, job.worker ?? "a worker without a name"), job.message === null ? null : h("span", { class: "soft" }, ` ${job.message}`));
  }
  if (job.status === "scheduled") return h("span", { class: "soft" }, `due in ${span(-since(job.run_at))}`, job.error === null ? "" : `, after ${fault(job.error, 80)}`);
  // Only what its key is held back by: the rest is the same for all of the queue, and stands above.
  const why = (job.waiting_for ?? []).find((one) => one.key !== undefined);
  if (job.status === "queued" && why !== undefined && !behind(why)) return h("span", { class: "soft" }, sentence(job.queue, why));
  if (job.outcome === "failed") return h("span", { class: "error" }, job.error === null ? "no error given" : fault(job.error));
  if (job.outcome === "succeeded") return h("span", { class: "soft" }, job.worker ?? "");
  return h("span", { class: "soft" }, job.description ?? "");
}

/** A bar that says how much is done. */
export function progress(job) {
  const percent = Math.round(job.progress * 100);
  return h("span", { class: "progress", role: "progressbar", "aria-label": "Progress", "aria-valuemin": "0", "aria-valuemax": "100", "aria-valuenow": String(percent) }, h("span", { class: "track" }, h("span", { class: "bar", style: { width: `${percent}%` } })), h("span", { class: "percent" }, `${percent} %`));
}

function took(job) {
  if (job.started_at === null) return h("span", { class: "zero" }, "–");
  const end = job.concluded_at === null ? since(job.started_at) : (Date.parse(job.concluded_at) - Date.parse(job.started_at)) / 1000;
  return span(end);
}
