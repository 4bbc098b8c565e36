// One queue: how it is, what may be done to it, its jobs a page at a time.

import { absolute, call, job as jobOf, list, may, place } from "./api.js";
import { age, count, fault, rate, since, span, time } from "./format.js";
import { state } from "./health.js";
import { behind, pausedWords, sentence } from "./held.js";
import { QueueLimits } from "./limits.js";
import { attempt, badge, retries, button, commandLine, curl, empty, jobLink, number, queueLink, sure, table } from "./parts.js";
import { editPolicy } from "./policy.js";
import { Bulk } from "./bulk.js";
import { Errors } from "./errors.js";
import { deleting, purging } from "./purge.js";
import { Rows } from "./rows.js";
import { Tasks } from "./tasks.js";
import { h } from "./view.js";

const PAGE = 25;
const FILTERS = [
  ["all", "All", {}],
  ["queued", "Queued", { status: "queued" }],
  ["in_progress", "In progress", { status: "in_progress" }],
  ["scheduled", "Scheduled", { status: "scheduled", retrying: false }],
  ["retrying", "Retrying", { retrying: true }],
  ["succeeded", "Succeeded", { outcome: "succeeded" }],
  ["failed", "Failed", { outcome: "failed" }],
  ["cancelled", "Cancelled", { outcome: "cancelled" }],
  ["expired", "Expired", { outcome: "expired" }],
];

/** What jobs may be narrowed down to, beside their status. */
const NARROWED = ["type", "key", "tag", "error_group"];

/** Tabs of concluded jobs, which are listed by when they ended. */
const ENDED = FILTERS.filter(([, , filter]) => "outcome" in filter).map(([key]) => key);

const COLUMNS = [
  { label: "Job", kind: "row" },
  { label: "Status", kind: "" },
  { label: "Type", kind: "" },
  { label: "Worker, progress, error, tags", kind: "wide" },
  { label: "Attempts", kind: "number" },
  { label: "Took", kind: "number" },
  { label: "Created", kind: "number" },
];

export class Queue {
  constructor(shared, name, query) {
    // Whatever is done here is to be seen, also where the rows hold still.
    const context = Object.create(shared, { again: { value: () => (this.rows.release(), shared.again()) } });
    this.context = context;
    this.rows = new Rows(context);
    this.name = name;
    this.title = `Queue ${name}`;
    this.shown = FILTERS.some(([key]) => key === query.get("show")) ? query.get("show") : "all";
    this.type = query.get("type") ?? "";
    this.key = query.get("key") ?? "";
    this.tag = query.get("tag") ?? "";
    this.error_group = query.get("error_group") ?? "";
    this.errors = new Errors(context, name);
    this.limits = new QueueLimits(context, name);
    this.bulk = new Bulk(context);
    this.tasks = new Tasks(context, name);
    // The cursors of the pages before, null the first's, and how many jobs are before each.
    this.cursors = [null];
    this.before = [0];
    this.wrong = null;
  }

  get queue() {
    return this.context.queues.find((queue) => queue.name === this.name);
  }

  async look() {
    const asked = this.filter();
    // What jobs wait for is asked where something is held back: it costs the server a look at each.
    if (this.queue?.held > 0) asked.waiting_for = "true";
    // By when they failed: a backlog of newer jobs hides no failure.
    if (ENDED.includes(this.shown)) asked.order = "concluded";
    await this.errors.look();
    await this.limits.look(this.queue);
    await this.tasks.look(this.queue?.totals.moved_in > 0);
    await this.context.samples.history(this.context, this.name).look();
    // One more than is shown, to know whether there is another page.
    const cursor = this.cursors.at(-1);
    const page = await list(asked, { limit: PAGE + 1, cursor, most: this.most() });
    if (cursor !== this.cursors.at(-1)) return;
    if (page.jobs.length > PAGE) {
      page.jobs.length = PAGE;
      page.cursor = page.jobs.at(-1).number;
    }
    this.rows.take(page);
  }

  get page() {
    return this.rows.page;
  }

  /** How many jobs there can be from here on, by what the queue counts. */
  most() {
    const { queue, shown } = this;
    if (queue === undefined) return Infinity;
    const counts = this.counts(queue);
    const all = shown === "all" ? Object.values(counts).reduce((sum, number) => sum + number, 0) : counts[shown];
    return all - this.before.at(-1);
  }

  /** By tab. Those of concluded jobs count also what history has forgotten. */
  counts({ queued, in_progress, scheduled, failures: { retrying }, totals: { succeeded, failed, cancelled, expired } }) {
    return { queued, in_progress, scheduled: scheduled - retrying, retrying, succeeded, failed, cancelled, expired };
  }

  pressed(event) {
    if (this.page?.jobs.length > 0) this.rows.pressed(event);
  }

  /** What the jobs are that are shown. */
  filter() {
    const [, , filter] = FILTERS.find(([key]) => key === this.shown);
    const asked = { ...filter, queue: this.name };
    for (const name of NARROWED) if (this[name] !== "") asked[name] = this[name];
    return asked;
  }

  draw() {
    const { queue } = this;
    const head = h("p", { class: "path" }, h("a", { href: "#/" }, "Overview"), " / queue");
    if (queue === undefined) {
      const body = '{"queue": "' + this.name + '", "payload": null}';
      return [head, h("h1", { tabindex: "-1" }, this.name), empty("There is no such queue", h("p", null, "It was deleted, or it never existed. The next job creates it:"), commandLine(curl("POST", absolute("jobs/enqueue"), body)))];
    }
    const now = state(queue);
    return [
      head,
      h("div", { class: "title-line" }, h("h1", { tabindex: "-1" }, this.name), h("span", { class: `state ${now.level}` }, now.word), h("span", { class: "soft grow" }, now.why), this.actions(queue)),
      this.numbers(queue),
      this.context.samples.history(this.context, this.name).draw(),
      this.tasks.draw(),
      this.limits.draw(queue, now.why, (key) => this.link({ key })),
      this.errors.draw(),
      h("section", { class: "panel jobs", "aria-label": "Jobs" }, this.filters(queue), this.search(), this.page?.jobs.length > 0 ? this.bulk.draw(this.shown, this.filter()) : null, this.jobs(), this.pager()),
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
      if (await sure(`Retry the failed jobs of ${name}?`, "Every failed job that is still in history is queued again and gets all its attempts again.", "Retry failed"))
        await after(`Retry of ${name}`, async () => `${count((await call("POST", path("/retry"))).retried)} jobs of ${name} queued again`);
    };
    const purge = async () => {
      const doing = await purging(queue);
      if (doing !== null) await after(`Purge of ${name}`, doing);
    };
    const remove = async () => {
      const doing = await deleting(queue);
      if (doing !== null) await after(`Deleted ${name}`, doing);
    };
    return h(
      "div",
      { class: "actions" },
      queue.policy.paused ? button("Resume", resume, { kind: "primary", key: "resume" }) : button("Pause", pause, { key: "pause" }),
      button("Retry failed", retry),
      queue.totals.moved_in > 0 ? button("Redrive", () => this.tasks.redrive(), { key: "redrive", title: "Move dead letters back to where they failed" }) : null,
      button("Policy", () => editPolicy(queue).then((changed) => changed && this.context.again())),
      button("Purge", purge, { kind: "danger" }),
      button("Delete", remove, { kind: "danger" }),
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
      tile("Scheduled", count(queue.scheduled - queue.failures.retrying)),
      tile("Retrying", count(queue.failures.retrying), queue.failures.retrying > 0 ? "bad" : ""),
      tile("Waiters", count(queue.waiters)),
      tile("Oldest queued", age(since(queue.oldest_queued_at))),
      tile("In per second", rate(rates?.in)),
      tile("Out per second", rate(rates?.out)),
      tile("Failed in total", count(queue.totals.failed), queue.totals.failed > 0 ? "bad" : ""),
    );
  }

  filters(queue) {
    const { totals } = queue;
    const counts = this.counts(queue);
    return h(
      "nav",
      { class: "tabs", "aria-label": "Jobs by status" },
      FILTERS.map(([key, label]) =>
        h("a", { key, href: this.link({ show: key }), "aria-current": key === this.shown ? "true" : null }, label, " ", key in counts ? h("span", { class: "tally", title: key in totals ? "Since the queue was created, or the server started" : null }, count(counts[key])) : null),
      ),
    );
  }

  link({ show = this.shown, ...other }) {
    const query = new URLSearchParams(show === "all" ? {} : { show });
    for (const name of NARROWED) if ((other[name] ?? this[name]) !== "") query.set(name, other[name] ?? this[name]);
    return this.linked(query.toString());
  }

  linked(query) {
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
      NARROWED.map((name) => (this[name] === "" ? null : h("span", { class: "chip", key: name }, `${name === "error_group" ? "error" : name} `, h("b", null, name === "error_group" ? this.errors.named(this[name]) : this[name]), " ", h("a", { href: this.link({ [name]: "" }), "aria-label": `Show every ${name === "error_group" ? "error" : name}` }, "×")))),
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
    if (this.page === null) return h("p", { class: "none" }, "Loading…");
    if (this.page.jobs.length > 0) return this.rows.draw(COLUMNS, row);
    if (this.page.cursor !== null) return h("p", { class: "none" }, "No match among the jobs searched so far. ", button("Look further", () => this.older(), { kind: "small" }));
    const body = `{"queue": "${this.name}", "payload": {}}`;
    return this.shown === "all" && NARROWED.every((name) => this[name] === "")
      ? empty("No jobs", h("p", null, "This queue is empty, and history has no jobs of it. Enqueue a job:"), commandLine(curl("POST", absolute("jobs/enqueue"), body)))
      : [this.rows.outcome(), h("p", { class: "none" }, "No job of this queue matches.")];
  }

  older() {
    this.cursors.push(this.page.cursor);
    this.before.push(this.before.at(-1) + this.page.jobs.length);
    this.turned();
  }

  newer() {
    this.cursors.pop();
    this.before.pop();
    this.turned();
  }

  turned() {
    this.rows.empty();
    this.context.redraw();
    this.context.again();
  }

  pager() {
    const more = this.page !== null && this.page.cursor !== null;
    if (!more && this.cursors.length === 1) return null;
    return h(
      "div",
      { class: "pager" },
      h("span", { class: "soft" }, `Page ${this.cursors.length}, ${ENDED.includes(this.shown) ? "last ended" : "newest"} first`),
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
          pair("Attempts at most", policy.max_attempts === null ? "no limit" : count(policy.max_attempts)),
          policy.dead_letter === null ? null : pair("Dead letters", h("a", { href: queueLink(policy.dead_letter) }, policy.dead_letter)),
          pair("Backoff", `up to ${span(policy.backoff.base)}, × ${policy.backoff.factor} each time, at most ${span(policy.backoff.cap)}`),
          pair("Jobs at most", policy.max_jobs === null ? "only the server’s limit" : count(policy.max_jobs)),
          policy.delay ? pair("New jobs wait", span(policy.delay)) : null,
          policy.expires_in === null ? null : pair("Jobs expire", `${span(policy.expires_in)} after their creation`),
          pair("In history: succeeded", kept(policy.keep_succeeded)),
          pair("In history: others", kept(policy.keep_failed)),
          pair("Paused", policy.paused ? pausedWords(queue) : "no"),
          ...named("Tag", policy.tags).map(([label, value]) => pair(label, value)),
          ...named("Kept", policy.attributes).map(([label, value]) => pair(label, h("code", null, value))),
          queue.created_at === null ? null : pair("Created", time(queue.created_at)),
          queue.modified_at === null ? null : pair("Changed", time(queue.modified_at)),
        ]),
      ),
      h(
        "section",
        { class: "panel", "aria-label": "Totals" },
        h("div", { class: "head" }, h("h2", null, "Totals"), h("span", { class: "soft" }, "since it was created, or the server started")),
        h("dl", { class: "pairs figures" }, ["enqueued", "dequeued", "redelivered", "retried", "succeeded", "failed", "dead_lettered", "moved_in", "moved_out", "cancelled", "expired"].map((name) => pair(name[0].toUpperCase() + name.slice(1).replace("_", " "), number(totals[name])))),
      ),
    );
  }
}

/** What has names: a label and a value each. */
const named = (word, values) => Object.entries(values).map(([name, value]) => [`${word}: ${name}`, value]);

/** What history remembers of a queue's jobs. */
function kept(keep) {
  if (keep === null) return "as much as the server keeps";
  return [keep.seconds === null ? null : `for ${span(keep.seconds)}`, keep.count === null ? null : `the last ${count(keep.count)}`].filter((part) => part !== null).join(", ");
}

function row(job) {
  return {
    key: job.id,
    cells: [
      h("a", { class: "id", href: jobLink(job.id) }, job.id),
      badge(job),
      job.type ?? h("span", { class: "soft" }, "–"),
      [news(job), job.tags.map((tag) => [" ", h("a", { class: "chip", key: `tag ${tag}`, href: `${queueLink(job.queue)}?${new URLSearchParams({ tag })}` }, tag)])],
      job.attempts === 0 ? h("span", { class: "zero" }, "0") : count(job.attempts),
      took(job),
      h("span", { title: time(job.created_at) }, `${age(since(job.created_at))} ago`),
    ],
  };
}

/** What is worth knowing of a job in its status. */
function news(job) {
  if (job.status === "in_progress") {
    return h("span", { class: "news" }, job.progress === null ? null : [progress(job), " "], h("span", null, job.worker ?? "an unnamed worker"), job.message === null ? null : h("span", { class: "soft" }, ` ${job.message}`));
  }
  if (job.status === "scheduled" && job.run_at === null) return h("span", { class: "soft" }, "held back");
  if (retries(job)) return h("span", { class: "soft" }, `attempt ${job.attempts + 1} in ${span(-since(job.run_at))}`, job.error === null ? "" : `, after ${fault(job.error, 80)}`);
  if (job.status === "scheduled") return h("span", { class: "soft" }, `due in ${span(-since(job.run_at))}`);
  // Only what its key is held back by: the rest is the same for all of the queue, and stands above.
  const why = (job.waiting_for ?? []).find((one) => one.key !== undefined);
  if (job.status === "queued" && why !== undefined && !behind(why)) return h("span", { class: "soft" }, sentence(job.queue, why));
  if (job.outcome === "failed") return h("span", { class: "error" }, job.error === null ? "no error given" : fault(job.error));
  if (job.outcome === "succeeded") return h("span", { class: "soft" }, job.worker ?? "");
  // A dead letter, or one that waits to be tried again.
  if (job.status === "queued" && job.error !== null) return h("span", { class: "soft" }, `after ${fault(job.error)}`);
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
