// Everything at a glance: what is wrong, totals, charts, each queue, what failed last.

import { absolute, may } from "./api.js";
import { Errors } from "./errors.js";
import { age, count, fault, rate, since, time } from "./format.js";
import { state, worse } from "./health.js";
import { heldNote, pausedNote } from "./held.js";
import { button, commandLine, curl, empty, jobLink, number, queueLink, table, trouble } from "./parts.js";
import { items } from "./servers.js";
import { h } from "./view.js";

const SHOWN = 50;
const WORST = 5;
const LEVELS = ["bad", "warn", "ok", "idle"];

const COLUMNS = [
  { label: "Queue", kind: "row", sort: (row) => row.queue.name },
  { label: "State", kind: "state", sort: (row) => row.rank },
  { label: "Queued", kind: "number", sort: (row) => -row.queue.queued },
  { label: "In progress", kind: "number", sort: (row) => -row.queue.in_progress },
  { label: "Scheduled", kind: "number", sort: (row) => row.queue.failures.retrying - row.queue.scheduled },
  { label: "Retrying", kind: "number", sort: (row) => -row.queue.failures.retrying },
  { label: "Waiters", kind: "number", sort: (row) => -row.queue.waiters },
  { label: "Oldest", kind: "number", sort: (row) => Date.parse(row.queue.oldest_queued_at ?? "9999-01-01") },
  { label: "In/s", kind: "number", sort: (row) => -(row.rates?.in ?? 0) },
  { label: "Out/s", kind: "number", sort: (row) => -(row.rates?.out ?? 0) },
  { label: "Succeeded", kind: "number", sort: (row) => -row.queue.totals.succeeded },
  { label: "Failed", kind: "number", sort: (row) => -row.queue.totals.failed },
];

/** What "All well" means. */
function well(rows) {
  const limited = rows.filter((row) => row.state.word === "Limited").length;
  if (limited === 0) return "Nothing fails, nothing waits for long, no queue is without workers.";
  return `Nothing fails, no queue is without workers; ${limited === 1 ? "1 queue is held back by its limits" : `${count(limited)} queues are held back by their limits`}.`;
}

export class Overview {
  title = "Overview";

  constructor(context) {
    this.context = context;
    // By trouble.
    this.sorted = { at: 1, down: false };
    this.wanted = "";
    this.from = 0;
    this.errors = new Errors(context);
  }

  async look() {
    await this.errors.look();
    await this.context.samples.history(this.context, null).look();
  }

  draw() {
    const { queues, samples, servers } = this.context;
    const old = servers.unavailable !== null;
    const rows = queues.map((queue) => ({ queue, rates: samples.rates(queue), state: state(queue) }));
    rows.sort((one, other) => worse(one.state, other.state));
    for (const [rank, row] of rows.entries()) row.rank = rank;
    return [
      h("h1", { class: "unseen", tabindex: "-1" }, "Overview"),
      queues.length === 0 && servers.wrong().length === 0 ? null : this.verdict(old ? [] : rows),
      this.totals(queues),
      this.charts(),
      servers.panel(),
      this.table(rows),
      this.errors.draw(),
      this.failures(),
    ];
  }

  verdict(rows) {
    const wrong = rows.filter((row) => row.state.level === "bad" || row.state.level === "warn");
    const servers = this.context.servers.wrong();
    const level = LEVELS.find((level) => servers[0]?.level === level || wrong[0]?.state.level === level) ?? "ok";
    const words = [servers[0]?.what, wrong.length === 0 ? undefined : wrong.length === 1 ? "1 queue needs a look" : `${count(wrong.length)} queues need a look`].filter(Boolean).join("; ") || "All well";
    return h(
      "section",
      { class: `verdict ${level}`, "aria-label": "Health" },
      h("p", { class: "headline", "aria-live": "polite" }, h("span", { class: "mark", "aria-hidden": "true" }), words),
      wrong.length + servers.length === 0 ? h("p", { class: "soft" }, well(rows)) : null,
      h(
        "ul",
        null,
        items(servers),
        wrong.slice(0, WORST).map((row) => h("li", { key: row.queue.name, class: row.state.level }, h("a", { href: queueLink(row.queue.name) }, row.queue.name), " ", row.state.why)),
        wrong.length > WORST ? h("li", { key: ":rest" }, `and ${count(wrong.length - WORST)} more`) : null,
      ),
    );
  }

  totals(queues) {
    const sum = (name) => queues.reduce((total, queue) => total + queue[name], 0);
    const rates = this.context.samples.rates();
    const retrying = queues.reduce((total, queue) => total + queue.failures.retrying, 0);
    const oldest = queues.reduce((found, queue) => Math.max(found, since(queue.oldest_queued_at) ?? -1), -1);
    const tile = (label, value, kind = "") => h("div", { class: "tile", key: label }, h("dt", null, label), h("dd", { class: kind }, value));
    return h(
      "dl",
      { class: "tiles" },
      tile("Queued", count(sum("queued"))),
      tile("In progress", count(sum("in_progress"))),
      tile("Scheduled", count(sum("scheduled") - retrying)),
      tile("Retrying", count(retrying), retrying > 0 ? "bad" : ""),
      tile("Waiters", count(sum("waiters"))),
      tile("Oldest queued", oldest < 0 ? "–" : age(oldest)),
      tile("In per second", rate(rates?.in)),
      tile("Out per second", rate(rates?.out)),
      tile("Failed per second", rate(rates?.failed), rates?.failed > 0 ? "bad" : ""),
    );
  }

  charts() {
    return this.context.samples.history(this.context, null).draw();
  }

  table(rows) {
    if (rows.length === 0) {
      const command = curl("POST", absolute("jobs/enqueue"), '{"queue": "mail", "payload": {"to": "ann"}}');
      return empty("No queues yet", h("p", null, "A queue is created by the first job that names it. Enqueue one:"), commandLine(command), may("enqueue") ? h("p", null, "Or ", h("a", { href: "#/enqueue" }, "enqueue a job by hand"), ".") : null);
    }
    const found = rows.filter((row) => row.queue.name.includes(this.wanted));
    const by = COLUMNS[this.sorted.at].sort;
    const sign = this.sorted.down ? -1 : 1;
    found.sort((one, other) => sign * (by(one) < by(other) ? -1 : by(one) > by(other) ? 1 : 0));
    this.from = Math.min(this.from, Math.max(0, Math.floor((found.length - 1) / SHOWN) * SHOWN));
    const shown = found.slice(this.from, this.from + SHOWN);
    const again = this.context.redraw;
    const turn = (by) => () => {
      this.from += by;
      again();
    };
    return h(
      "section",
      { class: "panel queues", "aria-label": "Queues" },
      h(
        "div",
        { class: "head" },
        h("h2", null, "Queues"),
        rows.length > 8 ? h("input", { type: "search", class: "filter", placeholder: "Filter by name", "aria-label": "Filter queues by name", oninput: (event) => ((this.wanted = event.target.value), (this.from = 0), again()) }) : null,
        found.length > SHOWN
          ? h("div", { class: "pager" }, h("span", { class: "soft" }, `${count(this.from + 1)}–${count(this.from + shown.length)} of ${count(found.length)}`), button("Previous", turn(-SHOWN), { kind: "small", disabled: this.from === 0 }), button("Next", turn(SHOWN), { kind: "small", disabled: this.from + SHOWN >= found.length }))
          : null,
      ),
      shown.length === 0 ? h("p", { class: "none" }, `No queue has “${this.wanted}” in its name.`) : table({ label: "Queues", columns: COLUMNS, rows: shown.map((row) => this.row(row)), sorted: this.sorted, sort: (at) => this.sort(at) }),
    );
  }

  sort(at) {
    this.sorted = { at, down: this.sorted.at === at && !this.sorted.down };
    this.context.redraw();
  }

  row({ queue, rates, state }) {
    const oldest = since(queue.oldest_queued_at);
    return {
      key: queue.name,
      cells: [
        h("a", { href: queueLink(queue.name) }, queue.name),
        [h("span", { key: "state", class: `state ${state.level}`, title: state.why || null }, state.word), pausedNote(queue), state.word === "Limited" || state.word === "Halted" ? heldNote(queue) : null],
        number(queue.queued),
        number(queue.in_progress),
        number(queue.scheduled - queue.failures.retrying),
        trouble(queue.failures.retrying),
        number(queue.waiters),
        number(oldest, age(oldest)),
        number(rates?.in, rate(rates?.in)),
        number(rates?.out, rate(rates?.out)),
        number(queue.totals.succeeded),
        trouble(queue.totals.failed),
      ],
    };
  }

  failures() {
    const { jobs } = this.context.failures;
    if (jobs.length === 0) return null;
    const columns = [{ label: "Job", kind: "row" }, { label: "Queue", kind: "" }, { label: "Type", kind: "" }, { label: "Error", kind: "wide" }, { label: "Attempts", kind: "number" }, { label: "Failed", kind: "number" }];
    const rows = jobs.slice(0, 8).map((job) => ({
      key: job.id,
      cells: [
        h("a", { class: "id", href: jobLink(job.id) }, job.id),
        h("a", { href: queueLink(job.queue) }, job.queue),
        job.type ?? h("span", { class: "soft" }, "–"),
        h("span", { class: "error" }, job.error === null ? h("span", { class: "soft" }, "no error given") : fault(job.error)),
        count(job.attempts),
        h("span", { title: time(job.concluded_at) }, `${age(since(job.concluded_at))} ago`),
      ],
    }));
    return h("section", { class: "panel failures", "aria-label": "Last failures" }, h("div", { class: "head" }, h("h2", null, "Last failures")), table({ label: "Last failures", columns, rows }));
  }
}
