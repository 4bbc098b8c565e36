// Who is there to take jobs, idle or not, who has gone silent, who has a job, and who waits.

import { absolute, call, list, may, place } from "./api.js";
import { age, count, since, span, time } from "./format.js";
import { ready } from "./held.js";
import { attempt, button, commandLine, curl, empty, jobLink, number, queueLink, sure, table } from "./parts.js";
import { progress } from "./queue.js";
import { h } from "./view.js";

const MOST = 200;
const SHOWN = 50;
const PAGE = 1000;
const PAGES = 10;

/** How often the list is read: a thousand workers are 300 KB. */
const AGAIN_MS = 5000;

/** What a worker is, by the word of its tab, those first that need a look. */
const STATES = { silent: "Silent", quiet: "Quiet", busy: "Busy", idle: "Idle" };
const LEVELS = { silent: "warn", quiet: "idle", busy: "ok", idle: "ok" };

const stateOf = (worker) => (worker.state === "silent" ? "silent" : worker.quiet ? "quiet" : worker.state);

const COLUMNS = [
  { label: "Worker", kind: "row" },
  { label: "State", kind: "state" },
  { label: "Slots", kind: "number" },
  { label: "Queues", kind: "names" },
  { label: "Host", kind: "" },
  { label: "Version", kind: "" },
  { label: "Up for", kind: "number" },
  { label: "Last seen", kind: "number" },
];

export class Workers {
  title = "Workers";

  constructor(context) {
    this.context = context;
    this.jobs = null;
    this.more = false;
    this.known = null;
    this.askedAt = -Infinity;
    this.shown = "all";
    this.wanted = "";
    this.from = 0;
  }

  async look() {
    if (performance.now() - this.askedAt >= AGAIN_MS) {
      this.askedAt = performance.now();
      this.known = await workers();
    }
    const running = this.context.queues.reduce((total, queue) => total + queue.in_progress, 0);
    if (running === 0) {
      Object.assign(this, { jobs: [], more: false });
      return;
    }
    // Knowing how many there are, the search can stop before it has seen every job.
    const limit = Math.min(running, MOST);
    const { jobs } = await list({ status: "in_progress" }, { limit, looks: 20 });
    Object.assign(this, { jobs, more: running > jobs.length, running });
  }

  draw() {
    return [h("h1", { tabindex: "-1" }, "Workers"), this.listed(), this.busy(), this.waiting()];
  }

  /** Those that say of themselves what they are. */
  listed() {
    if (this.known === null) return null;
    const head = (note) => h("div", { class: "head" }, h("h2", null, "Known workers"), h("span", { class: "soft" }, note));
    if (this.known.length === 0) {
      return h("section", { class: "panel", "aria-label": "Known workers" }, head("none"), h("p", { class: "none" }, "No worker has sent its details. Worker and `jobqueue work` send them; other workers are listed below while they have jobs or wait."));
    }
    const found = this.known.filter((worker) => (this.shown === "all" || stateOf(worker) === this.shown) && fits(worker, this.wanted));
    this.from = Math.min(this.from, Math.max(0, Math.floor((found.length - 1) / SHOWN) * SHOWN));
    const page = found.slice(this.from, this.from + SHOWN);
    const columns = may("admin") ? [...COLUMNS, { label: "", kind: "acts" }] : COLUMNS;
    const none = this.wanted === "" ? "No worker is in this state." : `No worker has “${this.wanted}” in its name, its host or its queues.`;
    return h(
      "section",
      { class: "panel workers", "aria-label": "Known workers" },
      head(slots(this.known)),
      this.tabs(),
      this.filter(found),
      page.length === 0 ? h("p", { class: "none" }, none) : table({ label: "Known workers", columns, rows: page.map((worker) => this.row(worker)) }),
    );
  }

  /** How many there are of each kind; a press shows these alone. */
  tabs() {
    const counts = Map.groupBy(this.known, stateOf);
    const tab = (key, label, tally) =>
      h("button", { type: "button", key, class: key === "silent" && tally > 0 ? "tab warn" : "tab", "aria-pressed": String(this.shown === key), onclick: () => this.turn({ shown: key, from: 0 }) }, label, h("span", { class: "tally" }, count(tally)));
    return h("div", { class: "tabs", role: "group", "aria-label": "Workers by state" }, tab("all", "All", this.known.length), Object.entries(STATES).map(([key, label]) => tab(key, label, counts.get(key)?.length ?? 0)));
  }

  filter(found) {
    if (this.known.length <= 8) return null;
    const { from } = this;
    return h(
      "div",
      { class: "search" },
      h("input", { type: "search", class: "filter", placeholder: "Name, host or queue", "aria-label": "Filter workers by name, host or queue", oninput: (event) => this.turn({ wanted: event.target.value, from: 0 }) }),
      found.length > SHOWN
        ? h("div", { class: "pager" }, h("span", { class: "soft" }, `${count(from + 1)}–${count(Math.min(from + SHOWN, found.length))} of ${count(found.length)}`), button("Previous", () => this.turn({ from: from - SHOWN }), { kind: "small", disabled: from === 0 }), button("Next", () => this.turn({ from: from + SHOWN }), { kind: "small", disabled: from + SHOWN >= found.length }))
        : null,
    );
  }

  turn(change) {
    Object.assign(this, change);
    this.context.redraw();
  }

  row(worker) {
    const state = stateOf(worker);
    const soft = h("span", { class: "soft" }, "–");
    const word = state === "silent" && worker.quiet ? "silent, quiet" : worker.quiet && worker.leases > 0 ? "quiet, busy" : state;
    const cells = [
      worker.instances > 1 ? `${worker.name} (${worker.instances} of this name)` : worker.name,
      h("span", { class: `state ${LEVELS[state]}`, title: state === "silent" ? "It has sent no dequeue for a minute: it stopped, hangs, or cannot reach the server." : null }, word),
      `${count(worker.leases)}${worker.concurrency === null ? "" : ` of ${count(worker.concurrency)}`}`,
      worker.queues.map((queue) => [h("a", { key: queue, href: queueLink(queue) }, queue), " "]),
      worker.host ?? soft,
      worker.version ?? soft,
      worker.started === null ? soft : span(Math.floor(since(worker.started))),
      h("span", { title: time(worker.seen_at) }, `${age(since(worker.seen_at))} ago`),
    ];
    return { key: worker.name, cells: may("admin") ? [...cells, this.act(worker)] : cells };
  }

  act(worker) {
    const { name } = worker;
    const tell = (verb, done) => async () => {
      if (verb === "quiet" && !(await sure(`Make ${name} quiet?`, "It finishes what it has and is given no more jobs until it is resumed, also after a restart of the server.", "Make quiet"))) return;
      if (!(await attempt(done, () => call("POST", place("workers", name, `/${verb}`))))) return;
      this.askedAt = -Infinity;
      this.context.again();
    };
    return worker.quiet ? button("Resume", tell("resume", "Resumed"), { kind: "small", "aria-label": `Resume ${name}` }) : button("Quiet", tell("quiet", "Made quiet"), { kind: "small", "aria-label": `Quiet ${name}` });
  }

  busy() {
    const head = (note) => h("div", { class: "head" }, h("h2", null, "At work"), h("span", { class: "soft" }, note));
    if (this.jobs === null) return h("section", { class: "panel" }, head(""), h("p", { class: "none" }, "Loading…"));
    if (this.jobs.length === 0) return h("section", { class: "panel" }, head("none"), h("p", { class: "none" }, "No job is in progress."));
    const names = new Map();
    for (const job of this.jobs) names.set(job.worker, [...(names.get(job.worker) ?? []), job]);
    const workers = [...names].sort(([one], [other]) => (one ?? "\uffff").localeCompare(other ?? "\uffff"));
    const columns = [
      { label: "Worker", kind: "row" },
      { label: "Job", kind: "" },
      { label: "Queue", kind: "" },
      { label: "Type", kind: "" },
      { label: "Progress", kind: "wide" },
      { label: "Running for", kind: "number" },
      { label: "Lease ends in", kind: "number" },
    ];
    const rows = workers.flatMap(([name, jobs]) =>
      jobs.map((job, at) => ({
        key: job.id,
        class: at === 0 ? "first" : "further",
        cells: [
          name ?? h("span", { class: "soft" }, "without a name"),
          h("a", { class: "id", href: jobLink(job.id) }, job.id),
          h("a", { href: queueLink(job.queue) }, job.queue),
          job.type ?? h("span", { class: "soft" }, "–"),
          h("span", { class: "news" }, job.progress === null ? h("span", { class: "soft" }, "–") : progress(job), job.message === null ? null : h("span", { class: "soft" }, ` ${job.message}`)),
          span(since(job.started_at)),
          span(-since(job.lease_expires_at)),
        ],
      })),
    );
    const note = `${count(this.jobs.length)} jobs in progress, ${count(names.size)} worker names`;
    return h("section", { class: "panel", "aria-label": "At work" }, head(this.more ? `the newest ${count(this.jobs.length)} of ${count(this.running)} jobs in progress` : note), table({ label: "At work", columns, rows }));
  }

  waiting() {
    const queues = this.context.queues.filter((queue) => queue.waiters > 0 || queue.queued > 0);
    const head = h("div", { class: "head" }, h("h2", null, "Waiting for jobs"), h("span", { class: "soft" }, "a dequeue held on several queues counts in each"));
    if (queues.length === 0) {
      return h("section", { class: "panel", "aria-label": "Waiting for jobs" }, head, empty("No worker waits", h("p", null, "A worker waits by holding a dequeue open. To try it:"), commandLine(curl("POST", absolute("jobs/dequeue"), '{"queue": "default", "wait": 20, "worker": "me"}'))));
    }
    const columns = [{ label: "Queue", kind: "row" }, { label: "Waiters", kind: "number" }, { label: "In progress", kind: "number" }, { label: "Queued", kind: "number" }];
    const rows = queues.slice(0, MOST).map((queue) => ({
      key: queue.name,
      cells: [h("a", { href: queueLink(queue.name) }, queue.name), queue.waiters === 0 && queue.in_progress === 0 && ready(queue) > 0 ? h("span", { class: "number warn" }, "0") : number(queue.waiters), number(queue.in_progress), number(queue.queued)],
    }));
    return h("section", { class: "panel narrow", "aria-label": "Waiting for jobs" }, head, table({ label: "Waiting for jobs", columns, rows }));
  }
}

/** All workers, those first that need a look: a page of a thousand each, ten at most. */
async function workers() {
  const found = [];
  let cursor = null;
  let pages = 0;
  do {
    const page = await call("GET", `workers?${new URLSearchParams(cursor === null ? { limit: PAGE } : { limit: PAGE, cursor })}`);
    found.push(...page.workers);
    cursor = page.cursor;
    pages += 1;
  } while (cursor !== null && pages < PAGES);
  const order = Object.keys(STATES);
  return found.sort((one, other) => order.indexOf(stateOf(one)) - order.indexOf(stateOf(other)));
}

/** Whether a text is in a worker's name, its host, or one of its queues. */
const fits = (worker, wanted) => wanted === "" || [worker.name, worker.host ?? "", ...worker.queues].some((text) => text.includes(wanted));

/** "37 of 4,000 slots have a job", over those that are there and say how many they have. */
function slots(known) {
  const there = known.filter((worker) => worker.state !== "silent" && worker.concurrency !== null);
  const sum = (name) => there.reduce((total, worker) => total + worker[name], 0);
  return there.length === 0 ? "" : `${count(sum("leases"))} of ${count(sum("concurrency"))} slots have a job`;
}
