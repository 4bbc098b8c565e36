// The policy editor: what is changed is sent, the rest stays as somebody else may have set it meanwhile.

import { Refused, call, place } from "./api.js";
import { button, field, opened, toast } from "./parts.js";
import { h } from "./view.js";

const NUMBER = { inputmode: "decimal" };
const ORDERS = [
  ["none", "None"],
  ["fifo", "One by one"],
  ["halt", "One by one; failure halts"],
];

/** name, label, hint, and how the text is read: a function that throws what is wrong with it. */
const FIELDS = [
  ["lease_seconds", "Lease, in seconds", "How long a lease lasts, if neither the dequeue nor the job sets it.", needed],
  ["max_attempts", "Attempts at most", "After these, a failure is final. Empty: no limit.", number],
  ["base", "Backoff: base, in seconds", "The longest wait before the second attempt.", needed],
  ["factor", "Backoff: factor", "How many times longer each further wait can be.", needed],
  ["cap", "Backoff: cap, in seconds", "No wait is longer than this.", needed],
  ["max_jobs", "Jobs at most", "Live jobs in the queue. Empty: only the server’s limit.", number],
  ["delay", "New jobs wait, in seconds", "If they set neither a delay nor a time. Empty: no wait.", number],
  ["expires_in", "Jobs expire after, in seconds", "Counted from creation, if they are still waiting then. Empty: never.", number],
  ["dead_letter", "Dead letters to", "The queue that a job moves to when it has failed for good. Empty: it stays in history.", (text) => text.trim() || null],
];

const KEPT = [
  ["keep_succeeded_seconds", "Succeeded: for how long", "Seconds. Empty: as long as the server keeps them.", number],
  ["keep_succeeded_count", "Succeeded: how many", "Only the newest. Empty: as many as the server keeps.", number],
  ["keep_failed_seconds", "Others: for how long", "Failed, cancelled and expired jobs. Seconds.", number],
  ["keep_failed_count", "Others: how many", "Of each outcome.", number],
];

const LIMITS = [
  ["concurrency", "In progress at most", "Across all workers. Empty: no limit.", number],
  ["rate", "Rate", "Jobs/seconds, such as 100/60; 100/60:10 for 10 at once. Empty: no limit.", rate],
];

const KEYED = [
  ["order", "Each: order of its jobs", "With an order, one job at a time is in progress.", (text) => text],
  ["key_concurrency", "Each: in progress", "At most this many. Empty: no limit.", number],
  ["key_rate", "Each: rate", "As above.", rate],
  ["key_max_jobs", "Each: live jobs", "At most this many. Empty: no limit.", number],
];

const ALL = [...FIELDS, ...KEPT, ...LIMITS, ...KEYED];
/** Where the server names a field of a part of the policy, the one of the form that it is. */
const NAMED = [
  [/^backoff\.(base|factor|cap)$/, "$1"],
  [/^rate\..*$/, "rate"],
  [/^per_key\.rate.*$/, "key_rate"],
  [/^per_key\.order$/, "order"],
  [/^per_key\.(\w+)$/, "key_$1"],
  [/^weights.*$/, "weights"],
  [/^tags.*$/, "tags"],
  [/^(keep_\w+)\.(\w+)$/, "$1_$2"],
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

function rate(text) {
  if (text.trim() === "") return null;
  const found = /^(\d+)\s*\/\s*(\d+(?:\.\d+)?)(?:\s*:\s*(\d+))?$/.exec(text.trim());
  if (found === null) throw new TypeError("Write jobs/seconds, such as 100/60, or 100/60:10 for 10 at once.");
  return { limit: Number(found[1]), per: Number(found[2]), burst: Number(found[3] ?? 1) };
}

const rateText = (value) => (value === null ? "" : `${value.limit}/${value.per}${value.burst > 1 ? `:${value.burst}` : ""}`);

/** A line for each key: its name, =, its weight. A name may hold an = itself. */
function weights(text) {
  const found = {};
  for (const line of text.split("\n").filter((one) => one.trim() !== "")) {
    const at = line.lastIndexOf("=");
    const weight = Number(line.slice(at + 1));
    if (at < 1 || line.slice(at + 1).trim() === "" || Number.isNaN(weight)) throw new TypeError("Write one line for each key, such as acme = 3.");
    found[line.slice(0, at).trim()] = weight;
  }
  return found;
}

/** A line for each tag: its name, =, its value, which may be empty or hold an = itself. */
function tags(text) {
  const found = {};
  for (const line of text.split("\n").filter((one) => one.trim() !== "")) {
    const at = line.indexOf("=");
    const name = (at < 0 ? line : line.slice(0, at)).trim();
    if (name === "") throw new TypeError("Write one line for each tag, such as team = mail.");
    found[name] = at < 0 ? "" : line.slice(at + 1).trim();
  }
  return found;
}

/** A policy as the texts of the form. */
function texts(policy) {
  const { backoff, per_key: perKey } = policy;
  const text = (value) => String(value ?? "");
  return {
    lease_seconds: text(policy.lease_seconds),
    max_attempts: text(policy.max_attempts),
    base: text(backoff.base),
    factor: text(backoff.factor),
    cap: text(backoff.cap),
    max_jobs: text(policy.max_jobs),
    delay: text(policy.delay),
    expires_in: text(policy.expires_in),
    dead_letter: text(policy.dead_letter),
    keep_succeeded_seconds: text(policy.keep_succeeded?.seconds),
    keep_succeeded_count: text(policy.keep_succeeded?.count),
    keep_failed_seconds: text(policy.keep_failed?.seconds),
    keep_failed_count: text(policy.keep_failed?.count),
    concurrency: text(policy.concurrency),
    rate: rateText(policy.rate),
    order: perKey?.order ?? "none",
    key_concurrency: text(perKey?.concurrency),
    key_rate: rateText(perKey?.rate ?? null),
    key_max_jobs: text(perKey?.max_jobs),
    fair: policy.fair,
    weights: Object.entries(policy.weights).map(([key, weight]) => `${key} = ${weight}`).join("\n"),
    tags: Object.entries(policy.tags).map(([name, value]) => `${name} = ${value}`).join("\n"),
  };
}

/** What a form asks for: the parts of a policy that are not as they were. */
function change(values, before, wrong) {
  const read = {};
  for (const [name, , , reads] of [...ALL, ["weights", "", "", weights], ["tags", "", "", tags]]) {
    try {
      read[name] = reads(values[name]);
    } catch (error) {
      wrong[name] = error.message;
    }
  }
  const changed = (...names) => names.some((name) => values[name] !== before[name]);
  const asked = {};
  for (const name of ["lease_seconds", "max_attempts", "max_jobs", "delay", "expires_in", "dead_letter", "concurrency", "rate", "weights", "tags"]) if (changed(name)) asked[name] = read[name];
  if (changed("base", "factor", "cap")) asked.backoff = { base: read.base, factor: read.factor, cap: read.cap };
  for (const name of ["keep_succeeded", "keep_failed"]) {
    if (!changed(`${name}_seconds`, `${name}_count`)) continue;
    const rule = { seconds: read[`${name}_seconds`], count: read[`${name}_count`] };
    asked[name] = rule.seconds === null && rule.count === null ? null : rule;
  }
  if (changed("fair")) asked.fair = values.fair;
  if (changed("order", "key_concurrency", "key_rate", "key_max_jobs")) {
    const rule = { order: read.order, concurrency: read.key_concurrency, rate: read.key_rate, max_jobs: read.key_max_jobs };
    const none = rule.order === "none" && rule.concurrency === null && rule.rate === null && rule.max_jobs === null;
    asked.per_key = none ? null : rule;
  }
  return asked;
}

/** Edit a queue's policy in a dialog; whether it was changed. It is read first: what the page shows may be seconds old. */
export async function editPolicy({ name: queue }) {
  let before = null;
  try {
    before = texts((await call("GET", place("queues", queue))).policy);
  } catch (error) {
    toast(`Policy of ${queue}: ${error.message}`, "bad");
    return false;
  }
  const values = { ...before };
  let wrong = {};
  return (await opened(`Policy of ${queue}`, (close, draw) => {
    const save = async (event) => {
      event.preventDefault();
      wrong = {};
      const asked = change(values, before, wrong);
      if (Object.keys(wrong).length === 0) {
        try {
          if (Object.keys(asked).length > 0) {
            await call("PATCH", place("queues", queue), asked);
            toast(`Policy of ${queue} set`);
          }
          close(true);
          return;
        } catch (error) {
          if (!(error instanceof Refused)) throw error;
          const told = error.field ?? "";
          const [pattern, name] = NAMED.find(([one]) => one.test(told)) ?? [told, told];
          const place = told.replace(pattern, name);
          wrong = { [place in values ? place : ""]: error.message };
        }
      }
      draw();
      document.getElementById(`field-${Object.keys(wrong)[0]}`)?.focus();
    };
    return h("form", { class: "form", novalidate: true, onsubmit: save }, form(values, wrong), h("div", { class: "actions end" }, button("Keep as it is", () => close(null)), h("button", { class: "button primary", type: "submit" }, "Set policy")));
  })) === true;
}

function form(values, wrong) {
  const set = (name) => (event) => (values[name] = event.target.type === "checkbox" ? event.target.checked : event.target.value);
  const input = ([name, label, hint]) => field(name, label, name === "order" ? choice(values, set) : h("input", { type: "text", ...(name.endsWith("rate") || name === "dead_letter" ? {} : NUMBER), autocomplete: "off", value: values[name], oninput: set(name) }), { hint, wrong: wrong[name] ?? null });
  const group = (title, ...rest) => h("fieldset", null, h("legend", null, title), rest);
  return [
    h("p", { class: "soft" }, "Changes apply at once, also to jobs that are already in the queue. Leases already given keep their length. Only the fields that you change are sent."),
    h("div", { class: "grid" }, FIELDS.map(input)),
    field("tags", "Tags", h("textarea", { rows: "2", spellcheck: "false", value: values.tags, oninput: set("tags") }), { hint: "One line for each, such as team = mail.", wrong: wrong.tags ?? null }),
    group("What history keeps", h("div", { class: "grid" }, KEPT.map(input))),
    group("Limits", h("div", { class: "grid" }, LIMITS.map(input))),
    group("Each key", h("div", { class: "grid" }, KEYED.map(input))),
    group(
      "Between keys",
      h("div", { class: "check" }, h("input", { type: "checkbox", id: "field-fair", name: "fair", checked: values.fair, onchange: set("fair") }), h("label", { for: "field-fair" }, "Fair: the key with the least in progress goes first")),
      field("weights", "Weights", h("textarea", { rows: "3", spellcheck: "false", value: values.weights, oninput: set("weights") }), { hint: "One line for each key, such as acme = 3. All other keys have 1.", wrong: wrong.weights ?? null }),
    ),
    wrong[""] === undefined ? null : h("p", { class: "hint bad", role: "alert" }, wrong[""]),
  ];
}

const choice = (values, set) => h("select", { value: values.order, onchange: set("order") }, ORDERS.map(([value, label]) => h("option", { value }, label)));
