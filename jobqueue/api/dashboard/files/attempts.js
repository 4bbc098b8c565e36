// What went wrong with a job: the error of each attempt that failed, and its traceback. All of it is text.

import { count, pretty, time } from "./format.js";
import { button, copy } from "./parts.js";
import { h } from "./view.js";

/** An error's parts: {type, message} where it has both, as the workers of the clients send them; else {text}, as it was sent. */
export function parts(error, text) {
  if (error === null || error === undefined) return { text: null };
  if (typeof error === "string") return { text: error };
  if (typeof error.type === "string" && typeof error.message === "string") return { type: error.type, message: error.message };
  return { text: text === undefined ? JSON.stringify(error, null, 2) : pretty(text) };
}

/** The attempts that are worth showing, newest first. Of a cancelled job not the one that was stopped for it. */
function shown(job) {
  const past = job.outcome === "cancelled" ? job.past.filter((tried) => tried.ended_at < job.concluded_at) : job.past;
  return past.toReversed();
}

/** The panel, null where nothing went wrong. text: the JSON text of the job's own error. */
export function errors(job, text) {
  const past = shown(job);
  if (past.length === 0) return job.error === null || job.outcome === "cancelled" ? null : panel([h("div", { class: "attempt" }, said(parts(job.error, text)))]);
  return panel(
    past.map((tried, at) => {
      // The server keeps a long error once, as the job's own: the newest attempt's.
      const newest = at === 0 && job.error !== null && tried.ended !== "lease_expired" && tried === job.past.at(-1);
      return attempt(tried, newest ? parts(job.error, text) : parts(tried.error), at === 0);
    }),
  );
}

const panel = (content) => h("section", { class: "panel text error", key: "error", "aria-label": "Errors" }, h("div", { class: "head" }, h("h2", null, "Errors")), content);

function attempt(tried, error, open) {
  const word = tried.ended === "lease_expired" ? "lease expired" : (error.type ?? "failed");
  const trace = tried.traceback;
  return h(
    "details",
    { class: "attempt", key: `attempt ${tried.attempt} ${tried.started_at}`, open },
    h("summary", null, h("b", null, `Attempt ${count(tried.attempt)}`), " ", h("span", { class: "error" }, word), " ", h("time", { class: "soft", datetime: tried.ended_at, title: tried.ended_at }, time(tried.ended_at))),
    tried.ended === "lease_expired" ? h("p", { class: "said" }, "The worker neither finished the job nor extended its lease in time.") : said(error),
    trace === undefined
      ? null
      : [
          h("div", { class: "head" }, h("h3", null, "Traceback"), button("Copy", () => copy(trace, "Traceback"), { kind: "small" })),
          h("pre", { class: "trace", tabindex: "0", "aria-label": `Traceback of attempt ${tried.attempt}` }, trace),
        ],
  );
}

function said({ type, message, text }) {
  if (type !== undefined) return h("p", { class: "said" }, h("b", null, type), ": ", h("span", null, message));
  return text === null ? h("p", { class: "said soft" }, "The worker reported no error.") : h("pre", { tabindex: "0", "aria-label": "Error" }, text);
}
