// All groups a page at a time, and one with its jobs: how many have ended, and how.

import { absolute, call, list, may, place } from "./api.js";
import { count, time } from "./format.js";
import { attempt, badge, button, commandLine, curl, empty, jobLink, number, queueLink, sure, table, trouble } from "./parts.js";
import { h } from "./view.js";

const MOST = 100;
const PAGE = 50;
const COLUMNS = [
  { label: "Group", kind: "row" },
  { label: "State", kind: "" },
  { label: "Ended", kind: "wide" },
  { label: "Succeeded", kind: "number" },
  { label: "Failed", kind: "number" },
  { label: "Queue", kind: "" },
  { label: "Created", kind: "" },
];

export const groupLink = (id) => `#/groups/${encodeURIComponent(id)}`;

const state = (group) => (group.concluded ? "concluded" : group.closed ? "closed" : "open");

/** A bar of how many of its jobs have ended. */
function ended(group) {
  const done = group.members - group.live;
  return [h("progress", { value: String(done), max: String(Math.max(group.members, 1)), "aria-label": "Jobs that have ended" }), ` ${count(done)} of ${count(group.members)}`];
}

export class Groups {
  title = "Groups";

  constructor(context) {
    this.context = context;
    // The cursors of the pages before, null the first's.
    this.cursors = [null];
    this.page = null;
  }

  async look() {
    const query = new URLSearchParams({ limit: String(PAGE) });
    if (this.cursors.at(-1) !== null) query.set("cursor", this.cursors.at(-1));
    this.page = await call("GET", `groups?${query}`);
  }

  draw() {
    return [h("div", { class: "title-line" }, h("h1", { tabindex: "-1" }, "Groups"), h("span", { class: "soft grow" }, "Jobs that belong together.")), h("section", { class: "panel", "aria-label": "Groups" }, this.rows(), this.pager())];
  }

  rows() {
    if (this.page === null) return h("p", { class: "none" }, "Loading…");
    const { groups } = this.page;
    if (groups.length === 0 && this.cursors.length === 1) {
      return empty("No groups", h("p", null, "A group counts how its jobs end. It can enqueue another job when all of them have ended:"), commandLine(curl("POST", absolute("groups"), '{"id": "map-7", "on_concluded": {"queue": "reduce", "payload": null}}')));
    }
    const rows = groups.map((group) => ({
      key: group.id,
      cells: [h("a", { href: groupLink(group.id) }, group.id), state(group), ended(group), number(group.succeeded), trouble(group.failed), h("a", { href: queueLink(group.queue) }, group.queue), time(group.created_at)],
    }));
    return table({ label: "Groups", columns: COLUMNS, rows });
  }

  pager() {
    const more = this.page !== null && this.page.cursor !== null;
    if (!more && this.cursors.length === 1) return null;
    const turn = (change) => () => {
      change();
      this.context.again();
    };
    return h(
      "div",
      { class: "pager" },
      h("span", { class: "soft" }, `Page ${this.cursors.length}, by id`),
      button("Previous", turn(() => this.cursors.pop()), { kind: "small", disabled: this.cursors.length === 1 }),
      button("Next", turn(() => this.cursors.push(this.page.cursor)), { kind: "small", disabled: !more }),
    );
  }
}

export class Group {
  constructor(context, id) {
    this.context = context;
    this.id = id;
    this.title = id;
    this.group = null;
    this.missing = null;
    this.jobs = [];
  }

  async look() {
    try {
      Object.assign(this, { group: await call("GET", place("groups", this.id)), missing: null });
    } catch (error) {
      if (error.code !== "unknown_group" && error.status !== 400) throw error;
      Object.assign(this, { group: null, missing: error.status === 400 ? error.message : "It never existed, or it has concluded and was removed from history." });
      return;
    }
    this.jobs = (await list({ group: this.id }, { limit: MOST, looks: 20 })).jobs;
  }

  draw() {
    const { group } = this;
    const path = h("p", { class: "path" }, h("a", { href: "#/" }, "Overview"), " / ", h("a", { href: "#/groups" }, "Groups"), " /");
    const head = h("h1", { tabindex: "-1" }, this.id);
    if (this.missing !== null) return [path, head, empty("There is no such group", h("p", null, this.missing))];
    if (group === null) return [path, head, h("p", { class: "none" }, "Loading…")];
    return [path, h("div", { class: "title-line" }, head, h("span", { class: "soft grow" }, state(group)), this.buttons()), this.facts(), this.members()];
  }

  buttons() {
    const { group } = this;
    if (!may("enqueue") || group.concluded) return null;
    const tell = (verb, done) => async () => {
      if (verb === "cancel" && !(await sure(`Cancel the group ${this.id}?`, `The group is closed. Its jobs that have not ended, ${count(group.live)} now, are cancelled.`, "Cancel them", true))) return;
      (await attempt(done, () => call("POST", place("groups", this.id, `/${verb}`)))) && this.context.again();
    };
    return h("div", { class: "actions" }, group.closed ? null : button("Close", tell("close", "Closed"), { key: "close" }), button("Cancel", tell("cancel", "Cancelled"), { kind: "danger", key: "cancel", disabled: group.cancel_requested }));
  }

  facts() {
    const { group } = this;
    const pair = (label, value) => h("div", { key: label }, h("dt", null, label), h("dd", null, value));
    const callback = (label, made) => {
      if (made === null) return null;
      if (made.job !== null) return pair(label, h("a", { href: jobLink(made.job) }, made.job));
      return pair(label, made.problem === null ? ["not enqueued yet; goes to queue ", h("a", { href: queueLink(made.queue) }, made.queue)] : h("span", { class: "warn" }, `cannot be enqueued yet: ${made.problem}`));
    };
    return h(
      "section",
      { class: "panel", "aria-label": "Facts" },
      h("div", { class: "head" }, h("h2", null, "Progress")),
      h("dl", { class: "pairs" }, [
        pair("State", state(group)),
        pair("Ended", ended(group)),
        ...["succeeded", "failed", "cancelled", "expired"].map((word) => (group[word] === 0 ? null : pair(word[0].toUpperCase() + word.slice(1), count(group[word])))),
        pair("Queue", h("a", { href: queueLink(group.queue) }, group.queue)),
        pair("Created", time(group.created_at)),
        callback("When all have ended", group.on_concluded),
        callback("When all have succeeded", group.on_succeeded),
      ]),
    );
  }

  members() {
    if (this.jobs.length === 0) return empty("No known jobs in this group.");
    const columns = [{ label: "Job", kind: "row" }, { label: "State", kind: "" }, { label: "Queue", kind: "" }];
    const rows = this.jobs.map((job) => ({ key: job.id, cells: [h("a", { class: "id", href: jobLink(job.id) }, job.id), badge(job), h("a", { href: queueLink(job.queue) }, job.queue)] }));
    return h("section", { class: "panel", "aria-label": "Jobs" }, h("div", { class: "head" }, h("h2", null, this.jobs.length < MOST ? "Jobs" : `The last ${MOST} jobs`)), table({ label: "Jobs", columns, rows }));
  }
}
