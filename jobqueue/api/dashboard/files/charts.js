// Charts of the last minutes, hour or day, drawn by uPlot. Beside each line stands its value, so that nothing is told by colour alone.

import { now } from "./format.js";
import { h } from "./view.js";
import uPlot from "./uplot/uPlot.esm.js";

/** The shortest time that a chart shows: before it, a server that has just begun has nothing to show. */
const LEAST_SECONDS = 300;
const DOTS = 60;
/** Values of a line up to which each is marked, so that one by itself is seen. */

const STEPS = [10, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 14_400, 21_600];
const HEIGHT = 132;
const dark = matchMedia("(prefers-color-scheme: dark)");
const hours = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const seconds = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

/** 1, 2, 5, 10, 20, …: for what there are only whole ones of. */
export const WHOLE = [0, 1, 2, 3, 4, 5, 6, 7].flatMap((power) => [1, 2, 5].map((first) => first * 10 ** power));

/** A chart. lines: {label, color (a custom property), fill, dots}; write: how a value is written; columns: times, then a list a line;
 * seconds: how much time it shows; least: the lowest that the axis ends at; steps: between its lines, where not any will do. */
export function chart({ title, unit, lines, write, columns, seconds, least, steps, note }) {
  const last = columns.slice(1).map((values) => values.findLast((value) => value !== null) ?? null);
  return h(
    "figure",
    { class: "chart", key: title },
    h(
      "figcaption",
      null,
      h("span", { class: "name" }, title, h("span", { class: "unit" }, unit)),
      h("span", { class: "legend" }, lines.map((line, at) => h("span", { class: "item" }, h("span", { class: `swatch ${line.color}`, "aria-hidden": "true" }), line.label, h("b", null, last[at] === null ? "–" : write(last[at]))))),
    ),
    h("div", { class: "plot", hook: (place) => new Plot(place, { lines, write, least, steps }), data: { columns, seconds } }),
    last.every((value) => value === null) || columns[0].length < 2 ? h("p", { class: "waiting" }, note) : null,
  );
}

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** A value on an axis: short. */
const tick = (write) => (_, values) => values.map((value) => (value === 0 ? "0" : write(value)));

class Plot {
  constructor(place, kind) {
    Object.assign(this, { place, ...kind, columns: null, seconds: LEAST_SECONDS, plot: null });
    place.setAttribute("aria-hidden", "true");
    this.resized = new ResizeObserver(() => this.fit());
    this.resized.observe(place);
    this.themed = () => this.draw();
    dark.addEventListener("change", this.themed);
  }

  show({ columns, seconds }) {
    Object.assign(this, { columns, seconds });
    if (this.plot === null) this.draw();
    else this.plot.setData(columns);
  }

  fit() {
    const width = this.place.clientWidth;
    if (this.plot !== null && width > 0 && width !== this.plot.width) this.plot.setSize({ width, height: HEIGHT });
  }

  leave() {
    this.resized.disconnect();
    dark.removeEventListener("change", this.themed);
    this.plot?.destroy();
  }

  /** Up to now; from the first value on, where the server has not run for so long. */
  range() {
    const end = now() / 1000;
    const [times, ...values] = this.columns;
    const first = times[times.findIndex((_, at) => values.some((line) => line[at] !== null))] ?? end;
    return [Math.max(end - this.seconds, Math.min(first, end - LEAST_SECONDS)), end];
  }

  draw() {
    this.plot?.destroy();
    const axis = { stroke: color("soft"), font: "11px system-ui, sans-serif", ticks: { show: false } };
    const options = {
      width: this.place.clientWidth || 300,
      height: HEIGHT,
      // On the right half a label of the time axis has room.
      padding: [8, 28, 0, 0],
      legend: { show: false },
      cursor: { show: false },
      scales: {
        x: { time: true, range: () => this.range() },
        y: { range: (_, low, high) => [0, Math.max(this.least, high * 1.1)] },
      },
      axes: [
        { ...axis, size: 24, space: 60, incrs: STEPS, grid: { show: false }, values: (_, times, at, space, step) => times.map((time) => (step < 60 ? seconds : hours).format(new Date(time * 1000))) },
        { ...axis, size: 52, space: 34, ...(this.steps === undefined ? {} : { incrs: this.steps }), grid: { stroke: color("line"), width: 1 }, values: tick(this.write) },
      ],
      series: [
        {},
        ...this.lines.map((line) => ({
          stroke: color(line.color),
          fill: line.fill ? color(`${line.color}-wash`) : undefined,
          width: 1.5,
          points: { show: (plot, at) => line.dots === true && plot.data[at].filter((value) => value !== null).length <= DOTS, size: 4 },
          // A gap means that the server took no samples, but where there is nothing to measure in a step.
          spanGaps: line.dots ?? false,
        })),
      ],
    };
    this.plot = new uPlot(options, this.columns, this.place);
  }
}
