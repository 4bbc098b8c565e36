// The charts of all queues, or of one: the last five minutes, hour or day, from the samples that the server keeps.

import { Refused, call, place } from "./api.js";
import { WHOLE, chart } from "./charts.js";
import { count, now, rate, span as duration } from "./format.js";
import { h } from "./view.js";

const SPANS = {
  minutes: { label: "5 min", words: "The last five minutes", seconds: 300, asked: "hour" },
  hour: { label: "Hour", words: "The last hour", seconds: 3600, asked: "hour" },
  day: { label: "Day", words: "The last day", seconds: 86400, asked: "day" },
};
const KEPT = "jobqueue-span";
const AGAIN_MS = 10_000;
const DUE_SECONDS = 0.5;
/** How long after the end of a step its sample is asked for. */

const NONE = "The server takes a sample every ten seconds.";

/** Which span is shown, on every page. */
let chosen = localStorage.getItem(KEPT) ?? "hour";
if (!(chosen in SPANS)) chosen = "hour";

/** The samples of one span: a list of values for each name, from the step that begins at `begins` (s since the epoch) on. */
class Kept {
  constructor(answer) {
    this.step = answer.step_seconds;
    this.begins = Date.parse(answer.begins_at) / 1000;
    this.values = Object.fromEntries(Object.entries(answer).filter(([, value]) => Array.isArray(value)));
    this.steps = this.values.queued.length;
  }

  get ends() {
    return this.begins + this.values.queued.length * this.step;
  }

  /** Add newer samples, which may overlap these. */
  add(newer) {
    const same = Math.round((this.ends - newer.begins) / this.step);
    for (const [name, values] of Object.entries(this.values)) {
      values.length -= Math.max(0, same);
      values.push(...newer.values[name]);
    }
    const old = Math.max(0, this.values.queued.length - this.steps);
    for (const values of Object.values(this.values)) values.splice(0, old);
    this.begins += old * this.step;
  }

  /** When each step ended: that is when depth was so. */
  times() {
    return this.values.queued.map((_, at) => this.begins + (at + 1) * this.step);
  }
}

export class History {
  /** queue: a queue's name, null for all. */
  constructor(context, queue) {
    this.context = context;
    this.queue = queue;
    this.kept = {};
    this.againAt = {};
  }

  /** Ask the server for the samples that are new, once there are any. */
  async look() {
    const { asked } = SPANS[chosen];
    // A queue that is not there is none to ask for.
    if (performance.now() < (this.againAt[asked] ?? 0) || (this.queue !== null && !this.context.queues.some((queue) => queue.name === this.queue))) return;
    this.againAt[asked] = performance.now() + AGAIN_MS;
    const kept = this.kept[asked];
    const missing = kept === undefined ? Infinity : Math.ceil((now() / 1000 - kept.ends) / kept.step) + 1;
    const query = new URLSearchParams(asked === "hour" ? {} : { span: asked });
    if (missing < kept?.steps) query.set("limit", String(Math.max(1, missing)));
    const path = this.queue === null ? "history" : place("queues", this.queue, "/history");
    try {
      const newer = new Kept(await call("GET", `${path}${path.includes("?") ? "&" : "?"}${query}`));
      if (missing < kept?.steps && newer.begins <= kept.ends) kept.add(newer);
      else this.kept[asked] = newer;
      const due = this.kept[asked].ends + newer.step + DUE_SECONDS - now() / 1000;
      this.againAt[asked] = performance.now() + Math.max(2, due) * 1000;
    } catch (error) {
      // An older owner has none, and a queue may have gone. Whatever else is wrong, the next request of the page says so.
      if (!(error instanceof Refused) || error.status === 401) throw error;
    }
  }

  /** Columns for a chart: times, and of each line the values that `of` makes of the samples, then those of `live` points. */
  columns(lines, live) {
    const { asked, seconds } = SPANS[chosen];
    const kept = this.kept[asked];
    const oldest = now() / 1000 - seconds;
    const columns = [[], ...lines.map(() => [])];
    for (const [at, time] of (kept?.times() ?? []).entries()) {
      if (time < oldest || time >= (live[0]?.at ?? Infinity)) continue;
      columns[0].push(time);
      for (const [line, { of, by }] of lines.entries()) {
        const value = kept.values[of][at];
        columns[line + 1].push(value === null ? null : value * by(kept.step));
      }
    }
    for (const point of live) {
      columns[0].push(point.at);
      for (const [line, { name }] of lines.entries()) columns[line + 1].push(point[name] ?? null);
    }
    return columns;
  }

  /** What the page itself saw: each look in the last five minutes, else only the last, so that charts end now. */
  live() {
    const { queues, samples } = this.context;
    if (this.queue === null) {
      const rated = samples.points.filter((point) => point.in !== null);
      return chosen === "minutes" && rated.length > 0 ? rated : samples.points.slice(-1);
    }
    const queue = queues.find((queue) => queue.name === this.queue);
    return queue === undefined ? [] : [{ at: now() / 1000, ...samples.rates(queue), queued: queue.queued, in_progress: queue.in_progress }];
  }

  choose(key) {
    chosen = key;
    localStorage.setItem(KEPT, key);
    this.context.redraw();
    this.context.again();
  }

  draw() {
    const { seconds, words } = SPANS[chosen];
    const live = this.live();
    const perSecond = (step) => 1 / step;
    const drawn = (title, about) => chart({ title, seconds, note: NONE, ...about, columns: this.columns(about.lines, about.live ?? live) });
    const took = (title, name, note) =>
      drawn(title, {
        unit: "",
        lines: [
          { label: "median", color: "blue", dots: true, of: `${name}_p50_seconds`, by: () => 1000 },
          { label: "p95", color: "violet", dots: true, of: `${name}_p95_seconds`, by: () => 1000 },
        ],
        write: (value) => duration(value / 1000),
        least: 10,
        live: [],
        note,
      });
    return h(
      "section",
      { class: this.queue === null ? "charts" : "charts four", "aria-label": words },
      h("div", { class: "spans", role: "group", "aria-label": "Time shown" }, Object.entries(SPANS).map(([key, { label }]) => h("button", { key, type: "button", "aria-pressed": String(key === chosen), onclick: () => this.choose(key) }, label))),
      drawn("Throughput", {
        unit: "jobs/s",
        lines: [
          { label: "in", name: "in", color: "blue", fill: true, of: "enqueued", by: perSecond },
          { label: "out", name: "out", color: "green", of: "concluded", by: perSecond },
          { label: "failed", name: "failed", color: "red", of: "failed", by: perSecond },
          { label: "failed attempts", name: "attempts", color: "violet", of: "attempts_failed", by: perSecond },
        ],
        write: rate,
        least: 1,
      }),
      drawn("Depth", {
        unit: "jobs",
        lines: [
          { label: "queued", name: "queued", color: "blue", fill: true, of: "queued", by: () => 1 },
          { label: "in progress", name: "in_progress", color: "violet", of: "in_progress", by: () => 1 },
        ],
        write: (value) => count(Math.round(value)),
        least: 4,
        steps: WHOLE,
      }),
      took("Pickup latency", "pickup", "No job was taken in this time."),
      this.queue === null ? null : took("Duration", "duration", "No job was concluded in this time."),
    );
  }
}
