// Enqueue a job by hand.

import { call, may } from "./api.js";
import { field, jobLink, toast } from "./parts.js";
import { h } from "./view.js";

const SECONDS = { type: "text", inputmode: "decimal", autocomplete: "off" };

/** The fields that are sent if they are filled in: how they are asked for, and how they are read. */
const FIELDS = [
  ["queue", "Queue", "Created if it does not exist.", { type: "text", list: "queues", placeholder: "default" }, String],
  ["type", "Type", "What kind of work it is.", { type: "text" }, String],
  ["id", "Id", "Empty: the server generates one.", { type: "text" }, String],
  ["key", "Key", "What the job is about. Order, limits and fairness apply per key.", { type: "text" }, String],
  ["tags", "Tags", "Comma-separated words to find the job by.", { type: "text" }, (text) => text.split(",").map((tag) => tag.trim()).filter((tag) => tag !== "")],
  ["description", "Description", "Free text, for people.", { type: "text" }, String],
  ["priority", "Priority", "0 is the most urgent, 9 the least.", { type: "text", inputmode: "numeric", placeholder: "5" }, Number],
  ["delay", "Delay, in seconds", "How long before a worker can take it.", SECONDS, Number],
  ["expires_in", "Expires in, in seconds", "Unless a worker has taken it by then.", SECONDS, Number],
  ["max_attempts", "Attempts at most", "Empty: the queue’s policy decides.", { type: "text", inputmode: "numeric" }, Number],
  ["lease_seconds", "Lease, in seconds", "Empty: the queue’s policy decides.", SECONDS, Number],
  ["unique.key", "Unique key", "Only one job of the queue can hold it at a time.", { type: "text" }, String],
  ["unique.on_conflict", "If another job holds the unique key", "What happens to this job.", [["", "keep the other job"], ["replace", "change the other job into this one"], ["follow", "run after the other job"], ["refuse", "refuse this job"]], String],
  ["unique.until", "Holds the unique key until", "When another job can hold the key.", [["", "the job is concluded"], ["started", "the job is started"], ["enqueued", "the time below has passed, whatever happens to the job"]], String],
  ["unique.for", "Holds it for, in seconds", "At least this long, whatever happens to the job.", SECONDS, Number],
  ["unique.max_wait", "Postpone for at most, in seconds", "When later jobs change this one and postpone it.", SECONDS, Number],
];

/** A field to fill in, or to choose in. */
const input = (props, value, oninput) => Array.isArray(props)
  ? h("select", { value, onchange: oninput }, props.map(([word, label]) => h("option", { value: word }, label)))
  : h("input", { autocomplete: "off", ...props, value, oninput });

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
        field("payload", "Payload", h("textarea", { rows: "8", spellcheck: "false", value: this.values.payload, oninput: set("payload") }), { hint: "Any JSON. The worker gets it byte for byte.", wrong: this.wrong.payload ?? null }),
        h(
          "div",
          { class: "grid" },
          FIELDS.map(([name, label, hint, props]) => field(name, label, input(props, this.values[name] ?? "", set(name)), { hint, wrong: this.wrong[name] ?? null })),
        ),
        h("datalist", { id: "queues" }, this.context.queues.slice(0, 200).map((queue) => h("option", { key: queue.name, value: queue.name }))),
        this.wrong[""] === undefined ? null : h("p", { class: "hint bad", role: "alert" }, this.wrong[""]),
        h(
          "div",
          { class: "actions" },
          h("button", { class: "button primary", type: "submit" }, "Enqueue"),
          this.made === null ? null : h("span", { class: "made" }, this.made.created ? "Enqueued " : "Already exists: ", h("a", { class: "id", href: jobLink(this.made.id) }, this.made.id)),
        ),
      ),
    ];
  }

  async send(event) {
    event.preventDefault();
    this.wrong = {};
    this.made = null;
    const fields = [];
    const unique = [];
    try {
      JSON.parse(this.values.payload);
    } catch (error) {
      this.wrong.payload = `This is not JSON: ${error.message}.`;
    }
    for (const [name, , , , read] of FIELDS) {
      const text = this.values[name] ?? "";
      if (text === "") continue;
      if (read === Number && Number.isNaN(Number(text))) this.wrong[name] = "Enter a number.";
      const [part, inner] = name.split(".");
      (inner === undefined ? fields : unique).push(`"${inner ?? part}": ${JSON.stringify(read(text))}`);
    }
    if (unique.length > 0) fields.push(`"unique": {${unique.join(", ")}}`);
    if (Object.keys(this.wrong).length === 0) {
      try {
        // The payload as it was typed: written anew, large numbers would be rounded.
        this.made = await call("POST", "jobs/enqueue", `{${[...fields, `"payload": ${this.values.payload}`].join(", ")}}`);
        toast(this.made.created ? "Enqueued" : "A job with this id and content already exists");
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
