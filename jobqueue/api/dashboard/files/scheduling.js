// The schedule editor: for a new one, or for some of one. What is not changed is not sent; of the job, what the form does not know stays.

import { Refused, call, place, schedule as scheduleOf } from "./api.js";
import { button, field, opened, toast } from "./parts.js";
import { h } from "./view.js";

const MISSED = [
  ["skip", "None run"],
  ["last", "Only the last one runs"],
  ["all", "All run, 100 at most"],
];
const OVERLAPS = [
  ["skip", "Skip the slot"],
  ["allow", "Run at the same time"],
  ["queue", "Wait until it ends"],
  ["cancel", "Cancel the earlier run first"],
];

const words = (text) => text.trim();
const maybe = (text) => text.trim() || null;

/** name, label, hint, and how the text is read: a function that throws what is wrong with it. */
const RULES = [
  ["cron", "Cron", "Minute, hour, day of the month, month, day of the week; or @daily.", maybe],
  ["every", "Every, in seconds", "Instead of cron.", number],
  ["timezone", "Time zone", "For cron, such as Europe/Berlin.", (text) => words(text) || "UTC"],
  ["overlap", "If an earlier run is in progress", null, words, OVERLAPS],
  ["missed", "Slots missed while the server was down", null, words, MISSED],
  ["catch_up", "Maximum age of missed slots, in seconds", "Older ones never run.", needed],
  ["jitter", "Jitter, in seconds", "Each job waits for a random time up to this.", needed],
  ["starts_at", "Not before", "Such as 2027-01-31T08:00:00Z. Empty: from now on.", maybe],
  ["ends_at", "Not after", "In the same format. Empty: no end.", maybe],
];

/** Fields of the job; those that are empty are left out. */
const JOB = [
  ["queue", "Queue", "Created if it does not exist.", maybe],
  ["type", "Type", "What kind of work it is.", maybe],
  ["priority", "Priority", "0 is the most urgent, 9 the least.", number],
  ["max_attempts", "Attempts at most", "Empty: the queue’s policy decides.", number],
];

function number(text) {
  const value = text.trim() === "" ? null : Number(text);
  if (Number.isNaN(value)) throw new TypeError("Enter a number.");
  return value;
}

function needed(text) {
  const value = number(text);
  if (value === null) throw new TypeError("Enter a number.");
  return value;
}

function json(text) {
  try {
    JSON.parse(text);
  } catch (error) {
    throw new TypeError(`This is not JSON: ${error.message}.`);
  }
  return text;
}

const NEW = { name: "", cron: "", every: "", timezone: "UTC", overlap: "skip", missed: "last", catch_up: "86400", jitter: "0", starts_at: "", ends_at: "", queue: "", type: "", priority: "5", max_attempts: "", payload: "null" };

/** A schedule as the texts of the form. */
function texts(schedule, payload) {
  const values = { ...NEW, name: schedule.name, payload };
  for (const [name] of RULES) values[name] = String(schedule[name] ?? "");
  for (const [name] of JOB) if (schedule.job[name] !== undefined) values[name] = String(schedule.job[name]);
  return values;
}

/** The body to be sent, as JSON text, so that a payload goes as it was typed; null if nothing is changed. */
function body(values, before, jobTexts, wrong) {
  const read = (name, reads) => {
    try {
      return reads(values[name]);
    } catch (error) {
      wrong[name] = error.message;
      return null;
    }
  };
  const changed = (names) => before === null || names.some((name) => values[name] !== before[name]);
  const said = [];
  for (const [name, , , reads] of RULES) {
    const value = read(name, reads);
    // A cron takes an every away and the other way round, so the one that is empty is not said.
    if (changed([name]) && !((name === "cron" || name === "every") && value === null)) said.push(`"${name}": ${JSON.stringify(value)}`);
  }
  if (values.cron.trim() !== "" && values.every.trim() !== "" && changed(["cron", "every"])) {
    if (before === null || (values.cron !== before.cron && values.every !== before.every)) wrong.cron = "Set either a cron expression or an interval, not both.";
  }
  if (values.cron.trim() === "" && values.every.trim() === "") wrong.cron = "Set a cron expression or an interval.";
  const job = new Map(jobTexts);
  for (const [name, , , reads] of JOB) {
    const value = read(name, reads);
    if (value === null) job.delete(name);
    else job.set(name, JSON.stringify(value));
  }
  job.set("payload", read("payload", json) ?? "null");
  if (changed([...JOB.map(([name]) => name), "payload"])) said.push(`"job": {${[...job].map(([name, text]) => `${JSON.stringify(name)}: ${text}`).join(", ")}}`);
  return said.length === 0 ? null : `{${said.join(", ")}}`;
}

/** Make a schedule in a dialog; its name, or null. */
export const newSchedule = (context) => asked("New schedule", null, new Map(), context.queues);

/** Edit a schedule in a dialog; whether it was changed. It is read first: what the page shows may be seconds old. */
export async function editSchedule(name) {
  try {
    const found = await scheduleOf(name);
    return (await asked(`Edit ${name}`, texts(found.schedule, found.payload), found.job, [])) !== null;
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    toast(`Schedule ${name}: ${error.message}`, "bad");
    return false;
  }
}

function asked(title, before, jobTexts, queues) {
  const values = { ...(before ?? NEW) };
  let wrong = {};
  return opened(title, (close, draw) => {
    const save = async (event) => {
      event.preventDefault();
      wrong = {};
      const name = values.name.trim();
      if (name === "") wrong.name = "Enter a name.";
      const text = body(values, before, jobTexts, wrong);
      if (Object.keys(wrong).length === 0) {
        try {
          if (text !== null) await send(name, text, before === null);
          close(name);
          return;
        } catch (error) {
          if (!(error instanceof Refused)) throw error;
          const told = (error.field ?? "").replace(/^job\./, "");
          wrong = { [told in values ? told : ""]: error.message };
        }
      }
      draw();
      document.getElementById(`field-${Object.keys(wrong)[0]}`)?.focus();
    };
    return h("form", { class: "form", novalidate: true, onsubmit: save }, form(values, wrong, before === null, queues), h("div", { class: "actions end" }, button("Keep as it is", () => close(null)), h("button", { class: "button primary", type: "submit" }, before === null ? "Create schedule" : "Save")));
  });
}

async function send(name, text, anew) {
  if (anew) {
    // A PUT would replace one of this name without a word.
    const there = await scheduleOf(name).catch((error) => (error.code === "unknown_schedule" ? null : Promise.reject(error)));
    if (there !== null) throw new Refused(0, { detail: "A schedule with this name already exists.", field: "name" });
  }
  await call(anew ? "PUT" : "PATCH", place("schedules", name), text);
  toast(anew ? `Created ${name}` : `Schedule ${name} saved`);
}

function form(values, wrong, anew, queues) {
  const set = (name) => (event) => (values[name] = event.target.value);
  const text = (name, more = {}) => h("input", { type: "text", autocomplete: "off", spellcheck: "false", ...more, value: values[name], oninput: set(name) });
  const choice = (name, choices) => h("select", { value: values[name], onchange: set(name) }, choices.map(([value, label]) => h("option", { value }, label)));
  const input = ([name, label, hint, reads, choices]) =>
    field(name, label, choices === undefined ? text(name, { ...(reads === number || reads === needed ? { inputmode: "decimal" } : {}), ...(name === "queue" ? { list: "queues", placeholder: "default" } : {}) }) : choice(name, choices), { hint, wrong: wrong[name] ?? null });
  const group = (title, ...rest) => h("fieldset", null, h("legend", null, title), rest);
  return [
    anew ? null : h("p", { class: "soft" }, "Only the fields that you change are sent. If its times change, it starts again from now: no earlier slot runs."),
    anew ? field("name", "Name", text("name"), { hint: "Letters, digits and . _ : -", wrong: wrong.name ?? null }) : null,
    h("div", { class: "grid" }, RULES.map(input)),
    group(
      "Each job",
      h("div", { class: "grid" }, JOB.map(input)),
      h("datalist", { id: "queues" }, queues.slice(0, 200).map((queue) => h("option", { key: queue.name, value: queue.name }))),
      field("payload", "Payload", h("textarea", { rows: "5", spellcheck: "false", value: values.payload, oninput: set("payload") }), { hint: "Any JSON. The worker gets it byte for byte.", wrong: wrong.payload ?? null }),
    ),
    wrong[""] === undefined ? null : h("p", { class: "hint bad", role: "alert" }, wrong[""]),
  ];
}
