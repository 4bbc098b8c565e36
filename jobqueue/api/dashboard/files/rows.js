// A queue's jobs as rows that hold still while somebody reads them or chooses among them, and what is done to those that are chosen.

import { Refused, call, may, place } from "./api.js";
import { edited } from "./edit.js";
import { count } from "./format.js";
import { button, sure, table } from "./parts.js";
import { h } from "./view.js";

const AT_ONCE = 4;
/** Requests under way together. */

const NAMED = 5;
/** Jobs that are named of those with which it went wrong, for each reason. */

const jobsOf = (number) => `${count(number)} ${number === 1 ? "job" : "jobs"}`;

// Where the pointer was and is: a browser says that it moved also where the page moved beneath it.
let was = null;
let is = null;
document.addEventListener("pointermove", (event) => ([was, is] = [is, `${event.screenX} ${event.screenY}`]), true);

/** What a row says beside its age. */
const said = (job) => JSON.stringify([job.status, job.outcome, job.attempts, job.progress, job.message, job.cancel_requested, job.run_at, job.queue, job.tags, job.priority]);

/** How many rows are others. Those that new ones pushed off the page are not counted. */
function changes(shown, next) {
  const before = new Map(shown.jobs.map((job) => [job.id, said(job)]));
  const added = next.jobs.filter((job) => !before.has(job.id)).length;
  const changed = next.jobs.filter((job) => before.has(job.id) && before.get(job.id) !== said(job)).length;
  const now = new Set(next.jobs.map((job) => job.id));
  const gone = shown.jobs.filter((job) => !now.has(job.id)).length;
  return added + changed + Math.max(0, gone - added);
}

export class Rows {
  constructor(context) {
    this.context = context;
    // What is shown, and what would be if the rows did not hold still.
    this.page = null;
    this.next = null;
    this.chosen = new Map();
    // The row from which on shift chooses.
    this.from = null;
    this.held = false;
    this.pointed = false;
    this.fresh = false;
    this.working = false;
    this.result = null;
  }

  /** Why the rows hold still, or null. */
  get why() {
    if (this.held) return "key";
    if (this.chosen.size > 0) return "chosen";
    const place = document.getElementById("rows");
    if (place === null) return null;
    return this.pointed ? "pointer" : place.contains(document.activeElement) ? "focus" : null;
  }

  /** Show a page, at once or once the rows need not hold still any more. */
  take(page) {
    this.next = page;
    if (this.page === null || this.page.jobs.length === 0 || this.fresh) this.turn();
    this.fresh = false;
  }

  turn() {
    if (this.next !== null) this.page = this.next;
    this.next = null;
  }

  /** Another list: what was chosen stays chosen. */
  empty() {
    Object.assign(this, { page: null, next: null });
  }

  /** Show what comes next whatever is pointed at: somebody did something, and wants to see it. */
  release() {
    this.fresh = true;
  }

  resume() {
    Object.assign(this, { held: false, pointed: false, from: null });
    this.chosen.clear();
    this.turn();
    this.context.redraw();
    document.getElementById("rows")?.querySelector("a")?.blur();
  }

  /** A key that was pressed anywhere but in a field. */
  pressed(event) {
    if (event.key.toLowerCase() !== "p") return;
    event.preventDefault();
    if (this.held) this.resume();
    else {
      this.held = true;
      this.context.redraw();
    }
  }

  /** How it went with the chosen ones, where none is left to be shown. */
  outcome() {
    if (this.why === null) this.turn();
    return this.result === null && this.chosen.size === 0 ? null : this.bar(null, true);
  }

  /** columns and row: of a table of jobs, without what is there to choose them. */
  draw(columns, row) {
    const why = this.why;
    if (why === null) this.turn();
    const { jobs } = this.page;
    const chooses = may("enqueue");
    const rows = jobs.map(row);
    if (chooses) {
      const all = jobs.length > 0 && jobs.every((job) => this.chosen.has(job.id));
      const every = h("input", { type: "checkbox", "aria-label": "Choose all shown", checked: all, onclick: (event) => this.every(event.target.checked) });
      columns = [{ label: every, name: "", kind: "pick" }, ...columns];
      for (const [at, job] of jobs.entries()) {
        rows[at].class = this.chosen.has(job.id) ? "chosen" : null;
        rows[at].cells.unshift(h("input", { type: "checkbox", "aria-label": `Choose ${job.id}`, checked: this.chosen.has(job.id), onclick: (event) => this.choose(at, event.target.checked, event.shiftKey) }));
      }
    }
    return [
      this.bar(why, chooses),
      h(
        "div",
        { id: "rows", class: "rows", onpointermove: (event) => this.point(event), onpointerleave: () => this.leave(), onfocusout: () => setTimeout(this.context.redraw), onkeydown: (event) => chooses && this.move(event) },
        table({ label: "Jobs", columns, rows }),
      ),
    ];
  }

  bar(why, chooses) {
    const { chosen, working } = this;
    const busy = { kind: "small", disabled: working };
    const changed = this.next === null ? 0 : changes(this.page, this.next);
    const note = why === null ? "Live" : `Paused: ${changed === 0 ? "no changes" : changed === 1 ? "1 change" : `${count(changed)} changes`}`;
    return h(
      "div",
      { class: "bulk hold", role: "group", "aria-label": "Chosen jobs" },
      chooses && chosen.size > 0
        ? [
            h("b", { key: "chosen" }, `${count(chosen.size)} chosen`),
            button("Retry…", () => this.act("retry"), { ...busy, key: "retry" }),
            button("Cancel…", () => this.act("cancel"), { ...busy, key: "cancel" }),
            button("Edit…", () => this.edit(), { ...busy, key: "edit" }),
            button("Clear", () => this.clear(), { ...busy, key: "clear" }),
          ]
        : null,
      h("span", { key: "result", class: "result soft grow", "aria-live": "polite" }, this.result ?? (chosen.size > 0 ? null : chooses ? "Choose jobs to retry, cancel or edit them." : null)),
      h("span", { key: "note", class: why === null ? "soft" : "warn", title: "The list pauses while the pointer or the focus is on it, or while jobs are chosen" }, note),
      why === null ? button("Pause (P)", () => this.pressed({ key: "p", preventDefault() {} }), { kind: "small", key: "hold" }) : button("Resume (P)", () => this.resume(), { kind: "small", key: "hold" }),
    );
  }

  point(event) {
    if (event.pointerType !== "mouse" || this.pointed || was === is) return;
    this.pointed = true;
    this.context.redraw();
  }

  leave() {
    this.pointed = false;
    this.context.redraw();
  }

  choose(at, on, further) {
    const { jobs } = this.page;
    const from = further && this.from !== null ? Math.min(this.from, jobs.length - 1) : at;
    for (const job of jobs.slice(Math.min(from, at), Math.max(from, at) + 1)) {
      if (on) this.chosen.set(job.id, job);
      else this.chosen.delete(job.id);
    }
    if (!further || this.from === null) this.from = at;
    this.result = null;
    this.context.redraw();
  }

  every(on) {
    for (const job of this.page.jobs) {
      if (on) this.chosen.set(job.id, job);
      else this.chosen.delete(job.id);
    }
    Object.assign(this, { from: null, result: null });
    this.context.redraw();
  }

  clear() {
    this.chosen.clear();
    Object.assign(this, { from: null, result: null });
    this.context.redraw();
  }

  /** Arrows go from row to row, with shift they choose; Escape lets go of all that are chosen. */
  move(event) {
    if (event.key === "Escape" && this.chosen.size > 0) return this.clear();
    const boxes = [...document.querySelectorAll("#rows tbody input")];
    if (event.key === "a" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      return this.every(true);
    }
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const at = boxes.findIndex((box) => box.closest("tr").contains(event.target));
    if (step === undefined || (at === -1 && step === -1)) return undefined;
    const to = Math.min(Math.max(at + step, 0), boxes.length - 1);
    event.preventDefault();
    boxes[to].focus();
    if (event.shiftKey && at !== -1) {
      if (this.from === null) this.from = at;
      this.choose(to, true, true);
    }
    return undefined;
  }

  async act(action) {
    const number = jobsOf(this.chosen.size);
    const [title, text, verb, done] =
      action === "retry"
        ? [`Retry ${number}?`, "Jobs that failed, expired or were cancelled go to the back of their queue and get all their attempts again.", `Retry ${number}`, "queued again"]
        : [`Cancel ${number}?`, "Waiting jobs are concluded as cancelled. For jobs in progress, the workers are asked to stop.", `Cancel ${number}`, "cancelled"];
    if (await sure(title, text, verb, action === "cancel")) await this.all(done, ({ id }) => call("POST", place("jobs", id, `/${action}`)));
  }

  async edit() {
    const number = jobsOf(this.chosen.size);
    const [first] = this.chosen.values();
    const before = { priority: "", queue: "", tags: "", delay: "", expires_in: "" };
    const note = "Only waiting jobs are changed. Fields that you leave empty do not change.";
    let tried = null;
    const asked = await edited(`Edit ${number}?`, note, before, `Change ${number}`, async (change) => {
      // The first one is tried alone, so that what is wrong is told in the form.
      try {
        tried = [first.id, await call("PATCH", place("jobs", first.id), change)];
      } catch (error) {
        if (!(error instanceof Refused) || error.status === 400) throw error;
        tried = [first.id, error];
      }
      return change;
    });
    if (asked === null) return;
    await this.all("changed", async ({ id }) => {
      if (id !== tried[0]) await call("PATCH", place("jobs", id), asked);
      else if (tried[1] instanceof Refused) throw tried[1];
    });
  }

  /** Do something to each of the chosen jobs; those with which it went wrong stay chosen, and are named. */
  async all(what, doing) {
    const left = [...this.chosen.values()];
    const wrong = new Map();
    let done = 0;
    this.working = true;
    const work = async () => {
      for (let job = left.shift(); job !== undefined; job = left.shift()) {
        try {
          await doing(job);
          done++;
          this.chosen.delete(job.id);
        } catch (error) {
          if (!(error instanceof Refused)) throw error;
          const reason = error.code ?? error.message;
          if (!wrong.has(reason)) wrong.set(reason, { ids: [], message: error.message });
          wrong.get(reason).ids.push(job.id);
        }
        this.result = `${count(done)} ${what}…`;
        this.context.redraw();
      }
    };
    try {
      await Promise.all(Array.from({ length: AT_ONCE }, work));
    } finally {
      this.working = false;
    }
    const refused = [...wrong.values()].map(({ ids, message }) => {
      const more = ids.length > NAMED ? ` and ${count(ids.length - NAMED)} more` : "";
      return `; ${count(ids.length)} refused: ${ids.slice(0, NAMED).join(", ")}${more} (${message})`;
    });
    this.result = `${jobsOf(done)} ${what}${refused.join("")}`;
    this.release();
    this.context.again();
  }
}
