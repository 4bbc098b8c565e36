// Redrives of a queue: begun by hand, how far they are, and a way to stop them.

import { Refused, call, may, place } from "./api.js";
import { count } from "./format.js";
import { attempt, button, field, opened, queueLink, toast } from "./parts.js";
import { h } from "./view.js";

const LOOK_MS = 1000;

export class Tasks {
  constructor(context, queue) {
    this.context = context;
    this.queue = queue;
    this.running = [];
    this.timer = null;
  }

  /** moved: whether any job ever came here from another queue; without, there is nothing to ask for. */
  async look(moved) {
    if (!moved || !may("read")) return;
    const { tasks } = await call("GET", "tasks");
    const mine = tasks.filter((task) => task.queue === this.queue);
    for (const { id } of this.running) {
      const over = mine.find((task) => task.id === id && task.state !== "running");
      if (over !== undefined) toast(`Redrive ${over.state}: ${count(over.done)} of ${count(over.total)} moved`, over.state === "failed" ? "bad" : "");
    }
    this.running = mine.filter((task) => task.state === "running");
    // No event says how far it is while nothing else happens.
    clearTimeout(this.timer);
    if (this.running.length > 0) this.timer = setTimeout(() => this.context.again(), LOOK_MS);
  }

  draw() {
    if (this.running.length === 0) return null;
    return h("section", { class: "panel tasks", "aria-label": "Tasks" }, h("div", { class: "head" }, h("h2", null, "Running tasks")), this.running.map((task) => this.task(task)));
  }

  task(task) {
    const percent = task.total === 0 ? 100 : Math.round((100 * task.done) / task.total);
    const stop = async () => (await attempt("Redrive stopped", () => call("DELETE", place("tasks", task.id)))) && this.context.again();
    return h(
      "div",
      { class: "task", key: task.id },
      h("span", { class: "progress", role: "progressbar", "aria-label": "Redrive", "aria-valuemin": "0", "aria-valuemax": "100", "aria-valuenow": String(percent) }, h("span", { class: "track" }, h("span", { class: "bar", style: { width: `${percent}%` } })), h("span", { class: "percent" }, `${percent} %`)),
      h("span", { class: "grow" }, `Redrive: ${count(task.done)} of ${count(task.total)}`, task.rate === null ? "" : `, ${task.rate} a second`, task.to === null ? "" : [" to ", h("a", { href: queueLink(task.to) }, task.to)]),
      may("admin") ? button("Stop", stop, { kind: "small" }) : null,
    );
  }

  /** Ask how, and begin. */
  async redrive() {
    const path = place("queues", this.queue, "/redrive");
    let found = null;
    try {
      found = await call("POST", path, { dry_run: true });
    } catch (error) {
      // A token that holds for some queues has to say where to.
      if (!(error instanceof Refused) || error.field !== "to") {
        toast(`Redrive: ${error.message}`, "bad");
        return;
      }
    }
    const values = { to: "", rate: "", as_new: false };
    let wrong = {};
    const how = found === null ? "the dead letters" : found.total === 1 ? "1 dead letter" : `${count(found.total)} dead letters`;
    const begun = await opened(`Redrive the dead letters of ${this.queue}?`, (close, draw) => {
      const send = async (event) => {
        event.preventDefault();
        const rate = values.rate.trim() === "" ? null : Number(values.rate);
        wrong = Number.isNaN(rate) ? { rate: "Enter a number." } : {};
        if (Object.keys(wrong).length === 0) {
          try {
            close(await call("POST", path, { to: values.to.trim() || null, rate, as_new: values.as_new }));
            return;
          } catch (error) {
            if (!(error instanceof Refused)) throw error;
            wrong = { [error.field in values ? error.field : ""]: error.message };
          }
        }
        draw();
        document.getElementById(`field-${Object.keys(wrong)[0]}`)?.focus();
      };
      const input = (name, label, hint) => field(name, label, h("input", { type: "text", autocomplete: "off", value: values[name], oninput: (event) => (values[name] = event.target.value) }), { hint, wrong: wrong[name] ?? null });
      return h("form", { class: "form", novalidate: true, onsubmit: send }, [
        h("p", null, `This moves ${how} of this queue. Each one goes back to the queue in which it failed and gets all its attempts again. Jobs for which there is no room stay.`),
        h("div", { class: "grid" }, input("to", "To another queue", "Empty: the queue in which each failed."), input("rate", "Jobs a second", "Empty: as fast as possible.")),
        h("label", { class: "check" }, h("input", { type: "checkbox", name: "as_new", checked: values.as_new, onclick: (event) => (values.as_new = event.target.checked), "aria-describedby": "note-as_new" }), h("span", null, "As new jobs")),
        h("p", { class: "hint", id: "note-as_new" }, "Each job gets a new id and a new creation time, unless a group, a schedule or another job refers to its id."),
        wrong[""] === undefined ? null : h("p", { class: "hint bad", role: "alert" }, wrong[""]),
        h("div", { class: "actions end" }, button("Keep as it is", () => close(null)), h("button", { class: "button primary", type: "submit" }, "Redrive")),
      ]);
    });
    if (begun === null) return;
    this.running = [begun, ...this.running];
    this.context.again();
  }
}
