// One job: what it is, what became of it, and what may be done about it.

import { absolute, call, job as jobOf, list, may, place } from "./api.js";
import { errors } from "./attempts.js";
import { count, fault, pretty, since, span, time } from "./format.js";
import { groupLink } from "./groups.js";
import { editJob } from "./edit.js";
import { sentence } from "./held.js";
import { attempt, badge, button, copy, curl, empty, jobLink, queueLink, scheduleLink, sure } from "./parts.js";
import { Log } from "./log.js";
import { progress } from "./queue.js";
import { h } from "./view.js";

export class Job {
  constructor(context, id) {
    this.context = context;
    this.id = id;
    this.title = `Job ${id}`;
    this.job = null;
    this.texts = new Map();
    this.missing = null;
    this.log = new Log(context, id);
    this.children = [];
    this.asked = 0;
    // Whether nothing of it changes any more, unless an event says so.
    this.over = false;
  }

  /** Whether an event, as a text, is about this job. */
  isIn(event) {
    return event.includes(`"id":${JSON.stringify(this.id)}`);
  }

  async look() {
    try {
      const found = await jobOf(this.id);
      Object.assign(this, found, { missing: null });
      await this.log.look(this.job);
      // Those are searched for among all jobs: not each second.
      if (this.asked++ % 10 === 0) this.children = (await list({ parent: this.id }, { limit: 20, looks: 1 })).jobs;
      this.over = this.job.status === "concluded" && this.log.ended;
    } catch (error) {
      if (error.code !== "unknown_job" && error.status !== 400) throw error;
      Object.assign(this, { job: null, over: true });
      this.missing = error.status === 400 ? error.message : "It never existed, or it was removed from history.";
    }
  }

  draw() {
    const { job } = this;
    const queue = job === null ? null : h("a", { href: queueLink(job.queue) }, job.queue);
    const path = h("p", { class: "path" }, h("a", { href: "#/" }, "Overview"), queue === null ? null : [" / ", queue], " / job");
    if (this.missing !== null) return [path, h("h1", { class: "id", tabindex: "-1" }, this.id), empty("There is no such job", h("p", null, this.missing))];
    if (job === null) return [path, h("h1", { class: "id", tabindex: "-1" }, this.id), h("p", { class: "none" }, "Loading…")];
    return [
      path,
      h("div", { class: "title-line" }, h("h1", { class: "id", tabindex: "-1" }, job.id), badge(job), h("span", { class: "grow" }), this.actions()),
      job.description === null || job.description === "" ? null : h("p", { class: "description" }, job.description),
      job.status === "in_progress" ? this.running() : null,
      this.halts(),
      this.waiting(),
      h(
        "div",
        { class: "columns job" },
        h("div", { class: "stack" }, this.timeline(), this.facts()),
        h("div", { class: "stack" }, this.log.draw(), errors(job, this.texts.get("error")), this.text("result", "Result"), this.text("payload", "Payload")),
      ),
    ];
  }

  actions() {
    const { job } = this;
    const path = (operation) => place("jobs", job.id, operation);
    const cancel = async () => {
      const text = job.status === "in_progress" ? "The server tells the worker at its next heartbeat. Whatever the worker reports, the job ends as cancelled." : "It is concluded as cancelled, and no worker gets it.";
      if (await sure("Cancel this job?", text, "Cancel the job", true)) (await attempt("Cancel requested", () => call("POST", path("/cancel")))) && this.context.again();
    };
    const retry = async () => {
      if (await sure("Retry this job?", job.halts ? "It goes to its old place, before all other jobs of its key, and gets all its attempts again." : "It goes to the back of its queue and gets all its attempts again.", "Retry")) (await attempt("Queued again", () => call("POST", path("/retry")))) && this.context.again();
    };
    const giveUp = async () => {
      if (await sure("Give up this job?", "It stays failed, and its key goes on to the next job.", "Give up", true)) (await attempt("Given up", () => call("POST", path("/cancel")))) && this.context.again();
    };
    const edit = async () => (await editJob(job, this.texts.get("payload"))) && this.context.again();
    const over = job.status === "concluded";
    return h(
      "div",
      { class: "actions" },
      button("Copy id", () => copy(job.id, "Id")),
      button("Copy as curl", () => copy(this.command(), "Command"), { title: "A command that enqueues a copy of this job" }),
      may("enqueue") && (job.status === "queued" || job.status === "scheduled") ? button("Edit", edit, { key: "edit" }) : null,
      may("enqueue") && over && job.outcome !== "succeeded" ? button("Retry", retry, { kind: "primary", key: "retry" }) : null,
      may("enqueue") && job.halts ? button("Give up", giveUp, { kind: "danger", key: "give-up" }) : null,
      may("enqueue") && !over ? button("Cancel", cancel, { kind: "danger", key: "cancel", disabled: job.cancel_requested }) : null,
    );
  }

  /** What enqueues such a job again, under another id. The payload goes out as it came in. */
  command() {
    const { job, texts } = this;
    const fields = [["queue", JSON.stringify(job.queue)]];
    for (const name of ["type", "key", "description"]) if (job[name] !== null) fields.push([name, JSON.stringify(job[name])]);
    if (job.tags.length > 0) fields.push(["tags", JSON.stringify(job.tags)]);
    if (job.headers !== undefined) fields.push(["headers", JSON.stringify(job.headers)]);
    if (job.priority !== 5) fields.push(["priority", String(job.priority)]);
    if (job.max_attempts !== null) fields.push(["max_attempts", String(job.max_attempts)]);
    fields.push(["payload", texts.get("payload")]);
    return curl("POST", absolute("jobs/enqueue"), `{${fields.map(([name, text]) => `"${name}": ${text}`).join(", ")}}`);
  }

  running() {
    const { job } = this;
    return h(
      "section",
      { class: "panel running", "aria-label": "In progress" },
      job.progress === null ? h("span", { class: "soft" }, "The worker has not reported its progress.") : progress(job),
      job.message === null ? null : h("span", { class: "message" }, job.message),
    );
  }

  /** That its key stands still for its failure. */
  halts() {
    const { job } = this;
    if (!job.halts) return null;
    return h(
      "section",
      { class: "panel waiting", "aria-label": "Halts its key" },
      h("div", { class: "head" }, h("h2", null, "Halts its key")),
      h("ul", null, h("li", null, "No other job of the key ", h("b", null, job.key), " is handed out until this one is retried or given up.")),
    );
  }

  /** What it waits for, with links to the jobs that hold it. A plain job in line says so in its timeline. */
  waiting() {
    const { job } = this;
    const reasons = job.waiting_for ?? [];
    const held = job.status === "scheduled" && job.run_at === null;
    if ((job.status !== "queued" && !held) || reasons.length === 0) return null;
    return h(
      "section",
      { class: "panel waiting", "aria-label": "Waits for" },
      h("div", { class: "head" }, h("h2", null, "Waits for")),
      h("ul", null, reasons.map((why) => h("li", { key: `${why.reason} ${why.key ?? ""}` }, sentence(job.queue, why)))),
    );
  }

  timeline() {
    const { job } = this;
    const steps = [];
    const step = (kind, what, at, ...more) => steps.push(h("li", { key: `${kind}${steps.length}`, class: kind }, h("div", { class: "what" }, h("b", null, what), at === null ? null : h("time", { datetime: at, title: at }, time(at))), more.filter(Boolean).map((line) => h("p", null, line))));
    const ran = job.started_at !== null;
    // The attempt in progress, and the one that ended the job, are told below. The server keeps the last of those that failed, not all.
    const past = job.past.filter((tried) => !ran || tried.attempt < job.attempts || tried.started_at !== job.started_at);
    const forgotten = (ran ? job.attempts - 1 : job.attempts) - past.length;
    step("done", "Created", job.created_at, job.run_at !== null && Date.parse(job.run_at) > Date.parse(job.created_at) && job.attempts === 0 ? `Due ${time(job.run_at)}` : null);
    if (forgotten > 0) step("warn", forgotten === 1 ? "1 earlier attempt" : `${count(forgotten)} earlier attempts`, null, "The server keeps no details of older attempts.");
    let moved = job.origin ?? null;
    const told = () => {
      step("warn", "Dead letter", moved.at, `It failed for good in ${moved.queue}${moved.reason === "lease_expired" ? ", when its last lease expired" : ""}${moved.attempts > 1 ? `, after ${count(moved.attempts)} attempts` : ""}.`);
      moved = null;
    };
    for (const tried of past) {
      if (moved !== null && tried.started_at > moved.at) told();
      const took = `took ${span((Date.parse(tried.ended_at) - Date.parse(tried.started_at)) / 1000)}`;
      const why = tried.ended === "lease_expired" ? "Its lease expired." : tried.error === null ? null : fault(tried.error, 300);
      step("bad", `Attempt ${count(tried.attempt)}`, tried.started_at, `by ${tried.worker ?? "an unnamed worker"}`, took, why);
    }
    if (moved !== null) told();
    if (ran) {
      const seconds = job.concluded_at === null ? since(job.started_at) : (Date.parse(job.concluded_at) - Date.parse(job.started_at)) / 1000;
      const over = job.status === "concluded";
      const kind = !over ? "now" : job.outcome === "failed" ? "bad" : "done";
      step(kind, `Attempt ${count(job.attempts)}`, job.started_at, `by ${job.worker ?? "an unnamed worker"}`, `${over ? "took" : "running for"} ${span(seconds)}`, over ? null : `lease ends in ${span(-since(job.lease_expires_at))}`);
    }
    if (job.status === "queued") step("now", "Queued", null, job.attempts > 0 ? "It is waiting for a worker again." : `for ${span(since(job.run_at ?? job.created_at))}`);
    if (job.status === "scheduled" && job.run_at === null) step("now", "Held back", null, "It has no start time yet: it waits for something else.");
    else if (job.status === "scheduled") step("now", job.attempts > 0 ? "Waiting for the next attempt" : "Scheduled", null, `due ${time(job.run_at)}, in ${span(-since(job.run_at))}`);
    if (job.status === "in_progress" && job.cancel_requested) step("warn", "Cancel requested", null, "The worker is told at its next heartbeat.");
    if (job.status === "concluded") {
      const total = (Date.parse(job.concluded_at) - Date.parse(job.created_at)) / 1000;
      step(job.outcome === "failed" ? "bad" : job.outcome === "succeeded" ? "good" : "done", job.outcome[0].toUpperCase() + job.outcome.slice(1), job.concluded_at, `${span(total)} after it was created`);
    }
    return h("section", { class: "panel", "aria-label": "Timeline" }, h("div", { class: "head" }, h("h2", null, "Timeline")), h("ol", { class: "timeline" }, steps));
  }

  facts() {
    const { job } = this;
    const pair = (label, value) => h("div", { key: label }, h("dt", null, label), h("dd", null, value));
    const queue = this.context.queues.find((found) => found.name === job.queue);
    const most = job.max_attempts ?? queue?.policy.max_attempts;
    return h(
      "section",
      { class: "panel", "aria-label": "Facts" },
      h("div", { class: "head" }, h("h2", null, "Facts")),
      h("dl", { class: "pairs" }, [
        pair("Queue", h("a", { href: queueLink(job.queue) }, job.queue)),
        job.schedule === undefined ? null : pair("Schedule", [h("a", { href: scheduleLink(job.schedule.name) }, job.schedule.name), job.schedule.slot === null ? ", run by hand" : `, slot ${time(job.schedule.slot)}`]),
        job.group === undefined ? null : pair("Group", h("a", { href: groupLink(job.group) }, job.group)),
        job.after === undefined ? null : pair("After", job.after.map((id) => [h("a", { key: id, href: jobLink(id) }, id), " "])),
        this.children.length === 0 ? null : pair("Before", this.children.map(({ id }) => [h("a", { key: id, href: jobLink(id) }, id), " "])),
        job.origin === undefined ? null : pair("Failed in", h("a", { href: queueLink(job.origin.queue) }, job.origin.queue)),
        pair("Type", job.type ?? "–"),
        job.key === null ? null : pair("Key", h("a", { href: `${queueLink(job.queue)}?${new URLSearchParams({ key: job.key })}` }, job.key)),
        job.unique === undefined ? null : pair("Unique key", [job.unique.key, h("span", { class: "soft" }, job.unique.holds ? ", held by this job" : job.unique.until === "enqueued" && job.unique.held_until !== null ? ", held" : ", not held by this job", job.unique.held_until === null ? "" : ` until ${time(job.unique.held_until)} at least`)]),
        job.tags.length === 0 ? null : pair("Tags", job.tags.map((tag) => [h("a", { key: tag, href: `${queueLink(job.queue)}?${new URLSearchParams({ tag })}` }, tag), " "])),
        ...Object.entries(job.headers ?? {}).map(([name, value]) => pair(`Header: ${name}`, typeof value === "string" ? value : [value.value, h("span", { class: "soft" }, `, ${value.type}`)])),
        pair("Priority", String(job.priority)),
        pair("Attempts", `${count(job.attempts)}${most === undefined || most === null ? "" : ` of ${count(most)}`}`),
        pair("Number", count(job.number)),
        job.expires_at === null ? null : pair("Expires", time(job.expires_at)),
        job.worker === null ? null : pair("Worker", job.worker),
      ]),
    );
  }

  text(name, title) {
    const text = this.texts.get(name);
    if (text === undefined || (text === "null" && name !== "payload")) return null;
    return h(
      "section",
      { class: `panel text ${name}`, key: name, "aria-label": title },
      h("div", { class: "head" }, h("h2", null, title), button("Copy", () => copy(text, title), { kind: "small" })),
      h("pre", { tabindex: "0", "aria-label": title }, pretty(text)),
    );
  }
}
