// Edit a job that waits, or many of them: what is changed is sent, the rest stays.

import { Refused, call, place } from "./api.js";
import { button, field, opened, toast } from "./parts.js";
import { h } from "./view.js";

const numeric = (text) => {
  if (text.trim() === "" || Number.isNaN(Number(text))) throw new TypeError("Enter a number.");
  return Number(text);
};

/** name, label, hint, and how the text is read: a function that throws what is wrong with it. */
const FIELDS = [
  ["priority", "Priority", "0 is the most urgent, 9 the least. A job whose priority changes goes to the back.", numeric],
  ["queue", "Queue", "A job that changes its queue goes to the back of the new one.", (text) => text.trim()],
  ["tags", "Tags", "Comma-separated words to find the job by.", (text) => text.split(",").map((tag) => tag.trim()).filter((tag) => tag !== "")],
  ["description", "Description", "Free text, for people.", (text) => (text === "" ? null : text)],
  ["delay", "Delay from now, in seconds", "0: at once. Empty: no change.", numeric],
  ["expires_in", "Expires from now, in seconds", "Unless a worker has taken it by then. Empty: no change.", numeric],
];

/** The JSON text of what is to be changed. The payload as it was typed: written anew, large numbers would be rounded. */
function change(values, before, wrong) {
  const said = [];
  for (const [name, , , read] of FIELDS) {
    if (values[name] === before[name]) continue;
    try {
      said.push(`${JSON.stringify(name)}: ${JSON.stringify(read(values[name]))}`);
    } catch (error) {
      wrong[name] = error.message;
    }
  }
  if (values.payload !== before.payload) {
    try {
      JSON.parse(values.payload);
      said.push(`"payload": ${values.payload}`);
    } catch (error) {
      wrong.payload = `This is not JSON: ${error.message}.`;
    }
  }
  return said.length === 0 ? null : `{${said.join(", ")}}`;
}

/**
 * A form in a dialog. before: the texts of the fields; those that are undefined are not asked for. send(change) is given the JSON text and
 * raises Refused; what it answers is answered, null if nothing was changed.
 */
export function edited(title, note, before, verb, send) {
  const values = { ...before };
  let wrong = {};
  return opened(title, (close, draw) => {
    const save = async (event) => {
      event.preventDefault();
      wrong = {};
      const asked = change(values, before, wrong);
      if (Object.keys(wrong).length === 0) {
        try {
          close(asked === null ? null : await send(asked));
          return;
        } catch (error) {
          if (!(error instanceof Refused)) throw error;
          const named = (error.field ?? "").replace(/^edit\./, "");
          wrong = { [named in values ? named : ""]: error.message };
        }
      }
      draw();
      document.getElementById(`field-${Object.keys(wrong)[0]}`)?.focus();
    };
    const set = (name) => (event) => (values[name] = event.target.value);
    const inputs = FIELDS.filter(([name]) => before[name] !== undefined);
    return h("form", { class: "form", novalidate: true, onsubmit: save }, [
      h("p", { class: "soft" }, note),
      before.payload === undefined ? null : field("payload", "Payload", h("textarea", { rows: "8", spellcheck: "false", value: values.payload, oninput: set("payload") }), { hint: "Any JSON.", wrong: wrong.payload ?? null }),
      h("div", { class: "grid" }, inputs.map(([name, label, hint]) => field(name, label, h("input", { type: "text", autocomplete: "off", value: values[name], oninput: set(name) }), { hint, wrong: wrong[name] ?? null }))),
      wrong[""] === undefined ? null : h("p", { class: "hint bad", role: "alert" }, wrong[""]),
      h("div", { class: "actions end" }, button("Keep as it is", () => close(null)), h("button", { class: "button primary", type: "submit" }, verb)),
    ]);
  });
}

/** Edit one job; whether it was changed. payload: its JSON text. */
export async function editJob(job, payload) {
  const before = { payload, priority: String(job.priority), queue: job.queue, tags: job.tags.join(", "), description: job.description ?? "", delay: "", expires_in: "" };
  const note = "A job can be changed until a worker takes it. Only the fields that you change are sent.";
  const done = await edited("Edit this job", note, before, "Change the job", async (asked) => {
    await call("PATCH", place("jobs", job.id), asked);
    toast("Job changed");
    return true;
  });
  return done === true;
}
