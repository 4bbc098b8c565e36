// Pieces that several views use: tables, badges, questions, messages, copying.

import { who } from "./api.js";
import { count, quoted } from "./format.js";
import { h, render } from "./view.js";

export const queueLink = (name) => `#/queues/${encodeURIComponent(name)}`;
export const scheduleLink = (name) => `#/schedules/${encodeURIComponent(name)}`;
export const jobLink = (id) => `#/jobs/${encodeURIComponent(id)}`;

/** A number that steps back when it is nothing. */
export const number = (value, text = count(value)) => h("span", { class: value ? "number" : "number zero" }, text);

/** A count that means trouble when it is not 0. */
export const trouble = (value) => h("span", { class: value ? "number bad" : "number zero" }, count(value));

const WORDS = { in_progress: "in progress" };

/** Whether a job waits for its next attempt, and not for a time that its producer gave it. */
export const retries = (job) => job.status === "scheduled" && job.attempts > 0 && job.run_at !== null;

/** Where a job is in its life: its status, or its outcome once it is concluded. */
export function badge(job) {
  const word = retries(job) ? "retrying" : (job.outcome ?? job.status);
  const stopping = job.cancel_requested && job.status === "in_progress";
  return h("span", { class: `badge ${word}` }, stopping ? "cancelling" : (WORDS[word] ?? word));
}

/**
 * A table. columns: {label, kind, sort}, kind "number" for what is aligned on the right, "wide" for what may take the rest, "row" for
 * what names the row; rows: {key, cells}. sorted: {at, down} and sort(at) where columns can be sorted by.
 */
export function table({ label, columns, rows, sorted, sort }) {
  const title = (column, at) =>
    column.sort
      ? h("button", { type: "button", class: "sort", onclick: () => sort(at) }, column.label, h("span", { class: "arrow", "aria-hidden": "true" }, sorted.at === at ? (sorted.down ? "↓" : "↑") : ""))
      : column.label;
  const order = (at) => (sorted?.at === at ? (sorted.down ? "descending" : "ascending") : null);
  // Roles are told, since browsers forget them where a narrow screen shows rows as cards.
  return h(
    "table",
    { role: "table", "aria-label": label },
    h(
      "thead",
      { role: "rowgroup" },
      h("tr", { role: "row" }, columns.map((column, at) => h("th", { role: "columnheader", scope: "col", class: column.kind, "aria-sort": order(at) }, title(column, at)))),
    ),
    h(
      "tbody",
      { role: "rowgroup" },
      rows.map((row) =>
        h(
          "tr",
          { key: row.key, role: "row", class: row.class },
          row.cells.map((cell, at) =>
            h(
              columns[at].kind === "row" ? "th" : "td",
              { role: columns[at].kind === "row" ? "rowheader" : "cell", scope: columns[at].kind === "row" ? "row" : null, class: columns[at].kind, "data-label": columns[at].name ?? columns[at].label },
              cell,
            ),
          ),
        ),
      ),
    ),
  );
}

export const button = (label, onclick, { kind = "", ...props } = {}) => h("button", { type: "button", class: `button ${kind}`, onclick, ...props }, label);

/** A command line with a button that copies it. */
export function commandLine(command) {
  return h("div", { class: "command" }, h("pre", { tabindex: "0", "aria-label": "Command line" }, h("code", null, command)), button("Copy", () => copy(command, "Command"), { kind: "small" }));
}

/** A curl line. body: JSON text to be sent, or null. */
export function curl(method, url, body) {
  const token = who.name === null ? "" : ' -H "Authorization: Bearer $JOBQUEUE_TOKEN"';
  const how = body === null ? (method === "GET" ? "" : ` -X ${method}`) : `${method === "POST" ? "" : ` -X ${method}`} --json ${quoted(body)}`;
  return `curl -s${token}${how} ${quoted(url)}`;
}

/** Nothing to show: why, and what to do. */
export const empty = (title, ...rest) => h("div", { class: "empty" }, h("p", { class: "title" }, title), rest);

/** A short message at the foot of the page. */
export function toast(text, kind = "") {
  const place = document.getElementById("toasts");
  const line = document.createElement("p");
  line.className = `toast ${kind}`;
  line.textContent = text;
  place.append(line);
  while (place.childElementCount > 3) place.firstElementChild.remove();
  setTimeout(() => line.remove(), kind === "bad" ? 10_000 : 5000);
}

/** Put a text into the clipboard. */
export async function copy(text, what) {
  try {
    if (navigator.clipboard !== undefined) await navigator.clipboard.writeText(text);
    else copyAsBefore(text);
    toast(`${what} copied`);
  } catch (error) {
    toast(`${what} not copied: ${error.message}`, "bad");
  }
}

// navigator.clipboard exists on https and localhost only.
function copyAsBefore(text) {
  const field = document.createElement("textarea");
  field.value = text;
  field.className = "aside";
  const dialog = document.getElementById("dialog");
  (dialog.open ? dialog : document.body).append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  if (!done) throw new Error("the browser does not allow it");
}

const dialog = document.getElementById("dialog");

/** Show a dialog with what `body(close)` describes, until something calls close(answer) or it is dismissed (null). */
export function opened(title, body) {
  return new Promise((resolve) => {
    let answer = null;
    const close = (given) => {
      answer = given;
      dialog.close();
    };
    const draw = () => render(dialog, h("h2", { id: "dialog-title" }, title), body(close, draw));
    dialog.onclose = () => {
      render(dialog);
      resolve(answer);
    };
    render(dialog);
    draw();
    dialog.showModal();
  });
}

/** Ask once. verb: what the button says; danger: whether it cannot be undone. */
export async function sure(title, text, verb, danger = false) {
  const said = await opened(title, (close) => [
    h("p", null, text),
    h("div", { class: "actions end" }, button("Keep as it is", () => close(null)), button(verb, () => close(true), { kind: danger ? "danger" : "primary" })),
  ]);
  return said === true;
}

/** Do something that changes the server, and say how it went. */
export async function attempt(what, doing) {
  try {
    const said = await doing();
    toast(typeof said === "string" ? said : what);
    return true;
  } catch (error) {
    toast(`${what}: ${error.message}`, "bad");
    return false;
  }
}

/** A field of a form with its label, its hint and what is wrong with it. */
export function field(name, label, input, { hint = null, wrong = null } = {}) {
  const notes = wrong ?? hint;
  input.props.id = `field-${name}`;
  input.props.name = name;
  if (notes !== null) input.props["aria-describedby"] = `note-${name}`;
  if (wrong !== null) input.props["aria-invalid"] = "true";
  return h("div", { class: "field", key: name }, h("label", { for: `field-${name}` }, label), input, notes === null ? null : h("p", { id: `note-${name}`, class: wrong === null ? "hint" : "hint bad" }, notes));
}
