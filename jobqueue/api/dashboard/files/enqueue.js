// Enqueue a job by hand.

import { call, may } from "./api.js";
import { field, jobLink, toast } from "./parts.js";
import { h } from "./view.js";

const SECONDS = { type: "text", inputmode: "decimal", autocomplete: "off" };

/** The fields that are sent if they are filled in: how they are asked for, and how they are read. */
const FIELDS = [
  ["queue", "Queue", "Made, if there is none of this name.", { type: "text", list: "queues", placeholder: "default" }, String],
  ["type", "Type", "What kind of work it is.", { type: "text" }, String],
  ["id", "Id", "Empty: the server makes one.", { type: "text" }, String],
  ["key", "Key", "What it is about: order, limits and fairness are by key.", { type: "text" }, String],
  ["description", "Description", "For people.", { type: "text" }, String],
  ["priority", "Priority", "0 is the most urgent, 9 the least.", { type: "text", inputmode: "numeric", placeholder: "5" }, Number],
  ["delay", "Delay, in seconds", "Before it may be taken.", SECONDS, Number],
  ["expires_in", "Expires in, in seconds", "Unless a worker has it by then.", SECONDS, Number],
  ["max_attempts", "Attempts at most", "Empty: the queue’s policy decides.", { type: "text", inputmode: "numeric" }, Number],
  ["lease_seconds", "Lease, in seconds", "Empty: the queue’s policy decides.", SECONDS, Number],
];

export class Enqueue {
  title = "Enqueue a job";

  constructor(context) {
    this.context = context;
    this.values = { payload: "{}" };
    this.wrong = {};
    this.made = null;
  }

  async look() {}

  draw() {
    if (!may("enqueue")) return [h("h1", { tabindex: "-1" }, "Enqueue a job"), h("p", { class: "none" }, "Your token does not have the scope enqueue.")];
    const set = (name) => (event) => (this.values[name] = event.target.value);
    return [
      h("h1", { tabindex: "-1" }, "Enqueue a job"),
      h(
        "form",
        { class: "form panel", novalidate: true, onsubmit: (event) => this.send(event) },
        field("payload", "Payload", h("textarea", { rows: "8", spellcheck: "false", value: this.values.payload, oninput: set("payload") }), { hint: "Any JSON. The worker is handed it byte for byte.", wrong: this.wrong.payload ?? null }),
        h(
          "div",
          { class: "grid" },
          FIELDS.map(([name, label, hint, props]) => field(name, label, h("input", { autocomplete: "off", ...props, value: this.values[name] ?? "", oninput: set(name) }), { hint, wrong: this.wrong[name] ?? null })),
        ),
        h("datalist", { id: "queues" }, this.context.queues.slice(0, 200).map((queue) => h("option", { key: queue.name, value: queue.name }))),
        this.wrong[""] === undefined ? null : h("p", { class: "hint bad", role: "alert" }, this.wrong[""]),
        h(
          "div",
          { class: "actions" },
          h("button", { class: "button primary", type: "submit" }, "Enqueue"),
          this.made === null ? null : h("span", { class: "made" }, this.made.created ? "Enqueued " : "Was there already: ", h("a", { class: "id", href: jobLink(this.made.id) }, this.made.id)),
        ),
      ),
    ];
  }

  async send(event) {
    event.preventDefault();
    this.wrong = {};
    this.made = null;
    const fields = [];
    try {
      JSON.parse(this.values.payload);
    } catch (error) {
      this.wrong.payload = `This is not JSON: ${error.message}.`;
    }
    for (const [name, , , , read] of FIELDS) {
      const text = this.values[name] ?? "";
      if (text === "") continue;
      if (read === Number && Number.isNaN(Number(text))) this.wrong[name] = "A number is needed.";
      fields.push(`"${name}": ${JSON.stringify(read(text))}`);
    }
    if (Object.keys(this.wrong).length === 0) {
      try {
        // The payload as it was typed: written anew, large numbers would be rounded.
        this.made = await call("POST", "jobs/enqueue", `{${[...fields, `"payload": ${this.values.payload}`].join(", ")}}`);
        toast(this.made.created ? "Enqueued" : "A job of this id and content was there already");
        this.context.again();
      } catch (error) {
        const known = error.field === "payload" || FIELDS.some(([name]) => name === error.field);
        this.wrong = { [known ? error.field : ""]: error.message };
      }
    }
    this.context.redraw();
    document.getElementById(`field-${Object.keys(this.wrong)[0]}`)?.focus();
  }
}
