// Who waits for jobs, and who has one.

import { absolute, list } from "./api.js";
import { count, since, span } from "./format.js";
import { ready } from "./held.js";
import { commandLine, curl, empty, jobLink, number, queueLink, table } from "./parts.js";
import { progress } from "./queue.js";
import { h } from "./view.js";

const MOST = 200;

export class Workers {
  title = "Workers";

  constructor(context) {
    this.context = context;
    this.jobs = null;
    this.more = false;
  }

  async look() {
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
    return [h("h1", { tabindex: "-1" }, "Workers"), this.busy(), this.waiting()];
  }

  busy() {
    const head = (note) => h("div", { class: "head" }, h("h2", null, "At work"), h("span", { class: "soft" }, note));
    if (this.jobs === null) return h("section", { class: "panel" }, head(""), h("p", { class: "none" }, "Looking…"));
    if (this.jobs.length === 0) return h("section", { class: "panel" }, head("nobody"), h("p", { class: "none" }, "No job is in progress."));
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
    const note = `${count(this.jobs.length)} jobs in progress, ${count(names.size)} names`;
    return h("section", { class: "panel", "aria-label": "At work" }, head(this.more ? `the newest ${count(this.jobs.length)} of ${count(this.running)} jobs in progress` : note), table({ label: "At work", columns, rows }));
  }

  waiting() {
    const queues = this.context.queues.filter((queue) => queue.waiters > 0 || queue.queued > 0);
    const head = h("div", { class: "head" }, h("h2", null, "Waiting for jobs"), h("span", { class: "soft" }, "a dequeue held on several queues counts in each"));
    if (queues.length === 0) {
      return h("section", { class: "panel", "aria-label": "Waiting for jobs" }, head, empty("Nobody waits", h("p", null, "A worker waits by holding a dequeue open. Be one:"), commandLine(curl("POST", absolute("jobs/dequeue"), '{"queue": "default", "wait": 20, "worker": "me"}'))));
    }
    const columns = [{ label: "Queue", kind: "row" }, { label: "Waiters", kind: "number" }, { label: "In progress", kind: "number" }, { label: "Queued", kind: "number" }];
    const rows = queues.slice(0, MOST).map((queue) => ({
      key: queue.name,
      cells: [h("a", { href: queueLink(queue.name) }, queue.name), queue.waiters === 0 && queue.in_progress === 0 && ready(queue) > 0 ? h("span", { class: "number warn" }, "0") : number(queue.waiters), number(queue.in_progress), number(queue.queued)],
    }));
    return h("section", { class: "panel narrow", "aria-label": "Waiting for jobs" }, head, table({ label: "Waiting for jobs", columns, rows }));
  }
}
