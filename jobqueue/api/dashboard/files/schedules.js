// All schedules a page at a time, and one with its next runs: how it does, and what may be done to it.

import { absolute, call, may, place, schedule as scheduleOf } from "./api.js";
import { count, pretty, since, span, time } from "./format.js";
import { pausedNote, pausedWords } from "./held.js";
import { attempt, button, commandLine, copy, curl, empty, jobLink, number, queueLink, scheduleLink, sure, table } from "./parts.js";
import { editSchedule, newSchedule } from "./scheduling.js";
import { h } from "./view.js";

const PAGE = 50;
const COLUMNS = [
  { label: "Schedule", kind: "row" },
  { label: "State", kind: "state" },
  { label: "When", kind: "wide" },
  { label: "Next run", kind: "" },
  { label: "Last run", kind: "" },
  { label: "Queue", kind: "" },
  { label: "Jobs made", kind: "number" },
  { label: "Skipped", kind: "number" },
];
const MISSED = { skip: "do not run", last: "the last one runs", all: "all run, 100 at most" };
const OVERLAPS = { allow: "runs at the same time", skip: "is skipped", queue: "waits until the run ends", cancel: "cancels the run first" };

/** When it runs, in words. */
export const when = ({ cron, every, timezone }) => (cron === null ? `every ${span(every)}` : `${cron} ${timezone}`);

function state(schedule) {
  if (schedule.paused) return { level: "warn", word: "Paused", why: `It was ${pausedWords(schedule)} and makes no jobs until it is resumed.` };
  if (schedule.problem !== null) return { level: "bad", word: "Makes no jobs", why: schedule.problem };
  if (schedule.next.length === 0) return { level: "idle", word: "Ended", why: "It has no more slots." };
  if (schedule.running.length > 0) return { level: "ok", word: "Running", why: "One of its jobs is not concluded." };
  return { level: "ok", word: "Open", why: "" };
}

const moment = (stamp) => h("time", { datetime: stamp, title: stamp }, time(stamp));
const ahead = (stamp) => h("time", { datetime: stamp, title: `in ${span(-since(stamp))}` }, time(stamp));
const lastRun = (schedule) => (schedule.last_job === null ? h("span", { class: "soft" }, "never") : h("a", { href: jobLink(schedule.last_job), title: schedule.last_job }, time(schedule.last_at)));

export class Schedules {
  title = "Schedules";

  constructor(context) {
    this.context = context;
    // The cursors of the pages before, null the first's.
    this.cursors = [null];
    this.page = null;
  }

  async look() {
    const query = new URLSearchParams({ limit: String(PAGE) });
    if (this.cursors.at(-1) !== null) query.set("cursor", this.cursors.at(-1));
    this.page = await call("GET", `schedules?${query}`);
  }

  draw() {
    const add = () => newSchedule(this.context).then((name) => name !== null && (location.hash = scheduleLink(name)));
    return [
      h("div", { class: "title-line" }, h("h1", { tabindex: "-1" }, "Schedules"), h("span", { class: "soft grow" }, "Each one makes jobs at set times."), may("admin") ? h("div", { class: "actions" }, button("New schedule", add, { kind: "primary" })) : null),
      h("section", { class: "panel schedules", "aria-label": "Schedules" }, this.rows(), this.pager()),
    ];
  }

  rows() {
    if (this.page === null) return h("p", { class: "none" }, "Loading…");
    const { schedules } = this.page;
    if (schedules.length === 0 && this.cursors.length === 1) {
      return empty("No schedules", h("p", null, "A schedule makes jobs by a cron expression or at a fixed interval:"), commandLine(curl("PUT", absolute("schedules/nightly"), '{"cron": "0 2 * * *", "timezone": "Europe/Berlin", "job": {"queue": "reports", "payload": null}}')));
    }
    const rows = schedules.map((schedule) => {
      const now = state(schedule);
      return {
        key: schedule.name,
        cells: [
          h("a", { href: scheduleLink(schedule.name) }, schedule.name),
          [h("span", { key: "state", class: `state ${now.level}`, title: now.why }, now.word), pausedNote(schedule)],
          when(schedule),
          schedule.next.length === 0 ? h("span", { class: "soft" }, "–") : ahead(schedule.next[0]),
          lastRun(schedule),
          h("a", { href: queueLink(schedule.job.queue ?? "default") }, schedule.job.queue ?? "default"),
          number(schedule.made),
          number(schedule.skipped),
        ],
      };
    });
    return table({ label: "Schedules", columns: COLUMNS, rows });
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
      h("span", { class: "soft" }, `Page ${this.cursors.length}, by name`),
      button("Previous", turn(() => this.cursors.pop()), { kind: "small", disabled: this.cursors.length === 1 }),
      button("Next", turn(() => this.cursors.push(this.page.cursor)), { kind: "small", disabled: !more }),
    );
  }
}

export class Schedule {
  constructor(context, name) {
    this.context = context;
    this.name = name;
    this.title = `Schedule ${name}`;
    this.found = null;
    this.missing = null;
  }

  async look() {
    try {
      Object.assign(this, { found: await scheduleOf(this.name), missing: null });
    } catch (error) {
      if (error.code !== "unknown_schedule" && error.status !== 400) throw error;
      Object.assign(this, { found: null, missing: error.status === 400 ? error.message : "It was deleted, or it never existed. Jobs that it made are kept." });
    }
  }

  draw() {
    const path = h("p", { class: "path" }, h("a", { href: "#/" }, "Overview"), " / ", h("a", { href: "#/schedules" }, "Schedules"), " /");
    const head = h("h1", { tabindex: "-1" }, this.name);
    if (this.missing !== null) return [path, head, empty("There is no such schedule", h("p", null, this.missing))];
    if (this.found === null) return [path, head, h("p", { class: "none" }, "Loading…")];
    const { schedule } = this.found;
    const now = state(schedule);
    return [
      path,
      h("div", { class: "title-line" }, head, h("span", { class: `state ${now.level}` }, now.word), h("span", { class: "soft grow" }, now.why), this.actions(schedule)),
      schedule.job.description === undefined ? null : h("p", { class: "description" }, schedule.job.description),
      h("div", { class: "columns" }, h("div", { class: "stack" }, this.next(schedule), this.runs(schedule)), h("div", { class: "stack" }, this.rules(schedule), this.payload())),
    ];
  }

  actions(schedule) {
    if (!may("admin")) return null;
    const { name } = this;
    const path = (operation) => place("schedules", name, operation);
    const after = async (what, doing) => (await attempt(what, doing)) && this.context.again();
    const run = async () => {
      if (await sure(`Run ${name} now?`, "It makes one job now, in addition to its slots, even if another run is in progress.", "Run now")) await after(`Run of ${name}`, async () => `Made ${(await call("POST", path("/run"))).id}`);
    };
    const pause = async () => {
      if (await sure(`Pause ${name}?`, "It makes no jobs until it is resumed, and skips the slots until then. Jobs that it has made go on.", "Pause")) await after(`Paused ${name}`, () => call("POST", path("/pause")));
    };
    const resume = () => after(`Resumed ${name}`, () => call("POST", path("/resume")));
    const remove = async () => {
      if (!(await sure(`Delete ${name}?`, "It makes no more jobs. Jobs that it has made are kept.", "Delete", true))) return;
      if (await attempt(`Deleted ${name}`, () => call("DELETE", path("")))) location.hash = "#/schedules";
    };
    return h(
      "div",
      { class: "actions" },
      button("Run now", run),
      schedule.paused ? button("Resume", resume, { kind: "primary", key: "resume" }) : button("Pause", pause, { key: "pause" }),
      button("Edit", () => editSchedule(name).then((changed) => changed && this.context.again())),
      button("Delete", remove, { kind: "danger" }),
    );
  }

  next(schedule) {
    const none = schedule.paused ? "None while it is paused." : "None.";
    return h(
      "section",
      { class: "panel", "aria-label": "Next runs" },
      h("div", { class: "head" }, h("h2", null, "Next runs"), h("span", { class: "soft" }, when(schedule))),
      schedule.next.length === 0 ? h("p", { class: "none" }, none) : h("dl", { class: "pairs" }, schedule.next.map((slot) => h("div", { key: slot }, h("dt", null, moment(slot)), h("dd", null, `in ${span(-since(slot))}`)))),
    );
  }

  runs(schedule) {
    const pair = (label, value) => h("div", { key: label }, h("dt", null, label), h("dd", null, value));
    const jobs = (ids) => ids.slice(0, 10).map((id) => h("div", { key: id }, h("a", { class: "id", href: jobLink(id) }, id)));
    const more = schedule.running.length - 10;
    return h(
      "section",
      { class: "panel", "aria-label": "Runs" },
      h("div", { class: "head" }, h("h2", null, "Runs")),
      h("dl", { class: "pairs" }, [
        pair("Last run", schedule.last_job === null ? "never" : [moment(schedule.last_at), h("div", null, h("a", { class: "id", href: jobLink(schedule.last_job) }, schedule.last_job))]),
        pair("Not concluded", schedule.running.length === 0 ? "none" : [jobs(schedule.running), more > 0 ? h("div", { class: "soft" }, `and ${count(more)} more`) : null]),
        schedule.waiting.length === 0 ? null : pair("Waiting slots", schedule.waiting.slice(0, 10).map((slot) => h("div", { key: slot }, moment(slot)))),
        pair("Jobs made", count(schedule.made)),
        pair("Slots skipped", count(schedule.skipped)),
        schedule.problem === null ? null : pair("Problem", h("span", { class: "error" }, schedule.problem)),
      ]),
    );
  }

  rules(schedule) {
    const { job } = schedule;
    const pair = (label, value) => h("div", { key: label }, h("dt", null, label), h("dd", null, value));
    return h(
      "section",
      { class: "panel", "aria-label": "Rules" },
      h("div", { class: "head" }, h("h2", null, "Rules")),
      h("dl", { class: "pairs" }, [
        pair("When", when(schedule)),
        schedule.starts_at === null ? null : pair("Not before", moment(schedule.starts_at)),
        schedule.ends_at === null ? null : pair("Not after", moment(schedule.ends_at)),
        pair("Missed slots", `${MISSED[schedule.missed]}${schedule.missed === "skip" ? "" : `, of the last ${span(schedule.catch_up)}`}`),
        pair("A slot during a run", OVERLAPS[schedule.overlap]),
        schedule.jitter === 0 ? null : pair("Jitter", `up to ${span(schedule.jitter)}`),
        pair("Begun", moment(schedule.begun_at)),
        pair("Queue", h("a", { href: queueLink(job.queue ?? "default") }, job.queue ?? "default")),
        pair("Type", job.type ?? "–"),
        job.key === undefined ? null : pair("Key", job.key),
        job.tags === undefined ? null : pair("Tags", job.tags.join(", ")),
        pair("Priority", String(job.priority ?? 5)),
        job.max_attempts === undefined ? null : pair("Attempts at most", count(job.max_attempts)),
      ]),
    );
  }

  payload() {
    const { payload } = this.found;
    return h("section", { class: "panel text payload", "aria-label": "Payload" }, h("div", { class: "head" }, h("h2", null, "Payload"), button("Copy", () => copy(payload, "Payload"), { kind: "small" })), h("pre", { tabindex: "0", "aria-label": "Payload" }, pretty(payload)));
  }
}
