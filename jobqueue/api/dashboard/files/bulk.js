// What may be done to every job that a queue's page shows: how many it is, said before it is done.

import { Refused, call, may } from "./api.js";
import { count } from "./format.js";
import { edited } from "./edit.js";
import { button, sure, toast } from "./parts.js";
import { h } from "./view.js";

/** Each action: its verb, what it has done, whether it cannot be undone, and where it can do anything: for which of the tabs. */
const ACTIONS = [
  ["cancel", "Cancel", "cancelled", true, ["all", "queued", "in_progress", "scheduled", "retrying"]],
  ["edit", "Edit", "changed", false, ["all", "queued", "scheduled", "retrying"]],
  ["retry", "Retry", "queued again", false, ["all", "failed", "cancelled", "expired"]],
  ["forget", "Forget", "forgotten", true, ["all", "succeeded", "failed", "cancelled", "expired"]],
];

const NOTES = {
  cancel: "Waiting jobs are concluded as cancelled. For jobs in progress, the workers are asked to stop.",
  retry: "They go to the back of the queue and get all their attempts again.",
  forget: "They are removed from history, with their payloads, results and errors. A job that halts its key is kept.",
};

const jobsOf = (number) => `${count(number)} ${number === 1 ? "job" : "jobs"}`;

export class Bulk {
  constructor(context) {
    this.context = context;
    // What goes on now: {action, done, of}.
    this.going = null;
  }

  /** shown: the tab; filter: what the jobs shown are. */
  draw(shown, filter) {
    if (!may("admin")) return null;
    const { going } = this;
    const offered = ACTIONS.filter(([, , , , tabs]) => tabs.includes(shown));
    return h(
      "div",
      { class: "bulk", role: "group", "aria-label": "All of these jobs" },
      h("span", { class: "soft" }, "All of these:"),
      offered.map((action) => button(`${action[1]}…`, () => this.begin(action, filter), { kind: "small", key: action[0], disabled: going !== null })),
      going === null ? null : h("span", { class: "soft", role: "status" }, `${count(going.done)} of ${jobsOf(going.of)} ${going.what}`),
    );
  }

  async begin([action, verb, done, danger], filter) {
    try {
      const { matched } = await this.run({ action, filter, dry_run: true });
      if (matched === 0) {
        toast(`None of these can be ${done}`);
        return;
      }
      const title = `${verb} ${jobsOf(matched)}?`;
      if (action === "edit") {
        const before = { priority: "", queue: "", tags: "", delay: "", expires_in: "" };
        const note = `This changes ${jobsOf(matched)} that can still be edited. Fields that you leave empty do not change.`;
        // Tried first on none, so that what is wrong is told in the form.
        const change = await edited(title, note, before, `Change ${jobsOf(matched)}`, async (asked) => {
          await this.part({ action, filter, dry_run: true }, asked);
          return asked;
        });
        if (change !== null) await this.finish(action, filter, done, matched, change);
      } else if (await sure(title, NOTES[action], `${verb} ${jobsOf(matched)}`, danger)) {
        await this.finish(action, filter, done, matched);
      }
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      toast(`${verb}: ${error.message}`, "bad");
    }
  }

  async finish(action, filter, what, of, change) {
    this.going = { what, done: 0, of };
    this.context.redraw();
    try {
      const found = await this.run({ action, filter }, change, (so) => {
        this.going.done = so.done;
        this.context.redraw();
      });
      const left = Object.entries(found.refused).map(([code, number]) => `, ${count(number)} refused: ${code}`);
      toast(`${jobsOf(found.done)} ${what}${left.join("")}`, left.length > 0 ? "bad" : "");
    } finally {
      this.going = null;
      this.context.again();
    }
  }

  /** One request of it. change: the JSON text of an edit, which has one also while it is only counted. */
  part(asked, change = asked.action === "edit" ? '{"tags": []}' : null) {
    const text = JSON.stringify(asked);
    return call("POST", "jobs/bulk", change === null ? text : `${text.slice(0, -1)}, "edit": ${change}}`);
  }

  /** All of it, a part after the other. */
  async run(asked, change, told = () => {}) {
    const found = { matched: 0, done: 0, refused: {} };
    let cursor = null;
    do {
      const part = await this.part(cursor === null ? asked : { ...asked, cursor }, change);
      found.matched += part.matched;
      found.done += part.done;
      for (const [code, number] of Object.entries(part.refused)) found.refused[code] = (found.refused[code] ?? 0) + number;
      cursor = part.cursor;
      told(found);
    } while (cursor !== null);
    return found;
  }
}
