// Failed attempts by what went wrong, of one queue or of all: how often, since when, and which jobs these are.

import { Refused, call, may } from "./api.js";
import { Bulk } from "./bulk.js";
import { age, count, since, time } from "./format.js";
import { button, jobLink, queueLink, table, trouble } from "./parts.js";
import { h } from "./view.js";

const SHOWN = 8;
const RETRY = ["retry", "Retry", "queued again", false];

/** What went wrong, in words. */
export function words({ type, line }) {
  if (type === null && line === null) return "no error given";
  if (type === null && line === "lease_expired") return "lease expired";
  return [type, line].filter((part) => part !== null).join(": ");
}

export class Errors {
  /** name: of a queue, null for all. */
  constructor(context, name = null) {
    this.context = context;
    this.name = name;
    this.bulk = new Bulk(context);
    this.groups = [];
    this.all = false;
    this.seen = null;
  }

  /** Read them again when more has failed. */
  async look() {
    const queues = this.context.queues.filter((queue) => this.name === null || queue.name === this.name);
    const failed = queues.reduce((sum, queue) => sum + queue.totals.attempts_failed, 0);
    const seen = `${queues.length} ${failed}`;
    if (queues.length === 0) this.groups = [];
    if (queues.length === 0 || seen === this.seen) return;
    try {
      this.groups = (await call("GET", `errors?${new URLSearchParams(this.name === null ? {} : { queue: this.name })}`)).errors;
      this.seen = seen;
    } catch (error) {
      // The queue is gone by now, or the server that owns it does not count errors yet. All else is shown.
      if (!(error instanceof Refused) || error.status === 401) throw error;
    }
  }

  /** The words of a group of this queue; its id where it is not known. */
  named(id) {
    const group = this.groups.find((found) => found.id === id);
    return group === undefined ? id : words(group);
  }

  draw() {
    const { groups } = this;
    if (groups.length === 0) return null;
    const columns = [{ label: "Error", kind: "wide" }, this.name === null ? { label: "Queue", kind: "" } : null, { label: "Attempts", kind: "number" }, { label: "Jobs", kind: "number" }, { label: "First", kind: "number" }, { label: "Last", kind: "number" }, { label: "Actions", kind: "acts" }];
    const shown = this.all ? groups : groups.slice(0, SHOWN);
    const { going } = this.bulk;
    return h(
      "section",
      { class: "panel errors", "aria-label": "Errors" },
      h(
        "div",
        { class: "head" },
        h("h2", null, "Errors"),
        h("span", { class: "soft" }, "failed attempts by error, most recent first"),
        going === null ? null : h("span", { class: "soft", role: "status" }, `${count(going.done)} of ${count(going.of)} ${going.what}`),
        groups.length > SHOWN ? button(this.all ? "Show fewer" : `Show all ${count(groups.length)}`, () => ((this.all = !this.all), this.context.redraw()), { kind: "small", key: "all" }) : null,
      ),
      table({ label: "Errors", columns: columns.filter(Boolean), rows: shown.map((group) => this.row(group)) }),
    );
  }

  row(group) {
    const ago = (stamp) => h("span", { title: time(stamp) }, `${age(since(stamp))} ago`);
    const told = group.type === null ? words(group) : [h("b", null, group.type), group.line === null ? null : [": ", group.line]];
    return {
      key: `${group.queue} ${group.id}`,
      cells: [
        h("span", { class: "error", title: words(group) }, told),
        ...(this.name === null ? [h("a", { href: queueLink(group.queue) }, group.queue)] : []),
        count(group.attempts),
        trouble(group.jobs),
        ago(group.first_at),
        h("a", { href: jobLink(group.last_job), title: `Last job: ${group.last_job}` }, ago(group.last_at)),
        this.acts(group),
      ],
    };
  }

  acts(group) {
    const dead = this.context.queues.find((queue) => queue.name === group.queue)?.policy.dead_letter ?? null;
    // Jobs that failed for good are dead letters where the queue has them go.
    const place = dead === null ? group.queue : dead;
    const query = new URLSearchParams({ ...(dead === null && group.jobs > 0 ? { show: "failed" } : {}), error_group: group.id });
    const filter = { queue: group.queue, outcome: "failed", error_group: group.id };
    return [
      h("a", { class: "button small", href: `${queueLink(place)}?${query}`, "aria-label": `Show the jobs with ${words(group)}` }, "Show"),
      may("admin") && dead === null && group.jobs > 0 ? [" ", button("Retry…", () => this.bulk.begin(RETRY, filter), { kind: "small", key: "retry", disabled: this.bulk.going !== null, "aria-label": `Retry the jobs with ${words(group)}` })] : null,
    ];
  }
}
