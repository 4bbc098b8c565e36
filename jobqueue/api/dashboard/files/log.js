// A job's log: the lines that its workers said, and more of them as they come.

import { call, may, place } from "./api.js";
import { count, time } from "./format.js";
import { h } from "./view.js";

const LOOK_MS = 1000;
const MOST = 1000;

export class Log {
  constructor(context, id) {
    this.context = context;
    this.id = id;
    this.lines = [];
    this.after = 0;
    this.dropped = 0;
    this.timer = null;
    // Whether these are all lines that there will be.
    this.ended = false;
  }

  /** job: as it is now. While somebody works on it, lines come without an event that says so. */
  async look(job) {
    if (!may("read")) return;
    const path = place("jobs", this.id, "/log");
    const page = await call("GET", `${path}${path.includes("?") ? "&" : "?"}after=${this.after}`);
    this.lines = [...this.lines, ...page.lines].slice(-MOST);
    this.after = page.after;
    this.dropped = page.dropped;
    this.ended = page.ended;
    clearTimeout(this.timer);
    if (job.status === "in_progress" || (job.status === "concluded" && !page.ended)) this.timer = setTimeout(() => this.context.again(), LOOK_MS);
  }

  draw() {
    if (this.lines.length === 0) return null;
    const gone = this.lines[0].number - 1;
    return h(
      "section",
      { class: "panel text log", key: "log", "aria-label": "Log" },
      h("div", { class: "head" }, h("h2", null, "Log"), h("span", { class: "soft" }, gone > 0 ? `the last ${count(this.lines.length)} of ${count(this.after)} lines` : `${count(this.after)} lines`)),
      h(
        "pre",
        { tabindex: "0", "aria-label": "Log" },
        this.lines.map((line) =>
          h("div", { key: String(line.number), class: line.level === "error" || line.level === "critical" ? "bad" : line.level === "warning" ? "warn" : "" }, `${time(line.time)} ${line.attempt > 1 ? `#${line.attempt} ` : ""}${line.level === "info" ? "" : `${line.level.toUpperCase()} `}${line.text}`),
        ),
      ),
    );
  }
}
