// The server by itself: what it is, where it keeps jobs, how much of each bound is used, the limits in force.

import { age, count, since, span, time } from "./format.js";
import { table } from "./parts.js";
import { bytes } from "./servers.js";
import { h } from "./view.js";

const AGAIN_MS = 2000;
const KEPT = { memory: "in memory; lost when the server stops", file: "in a file", store: "in a store" };
const LEVELS = { full: ["bad", "Full"], near: ["warn", "Nearly full"], ok: ["ok", "Well"] };
const COLUMNS = [{ label: "What", kind: "row" }, { label: "State", kind: "state" }, { label: "Used", kind: "used" }, { label: "Share", kind: "share" }];

export class Server {
  title = "Server";

  constructor(context) {
    this.context = context;
  }

  async look() {
    await this.context.servers.look(AGAIN_MS);
  }

  draw() {
    const { servers } = this.context;
    const heading = h("h1", { tabindex: "-1" }, "Server");
    if (!servers.told) return [heading, h("p", { class: "none" }, "Your token is limited to some queues, and this page is about all of them.")];
    if (servers.server === null) return [heading, h("p", { class: "none" }, "Loading…")];
    const [worst] = servers.wrong();
    const [level, word] = worst === undefined ? ["ok", "Well"] : [worst.level, worst.what];
    return [h("div", { class: "title-line" }, heading, h("span", { class: `state ${level}` }, word), h("span", { class: "soft grow" }, worst?.why ?? "")), h("section", { class: "columns server" }, this.about(), this.uses()), servers.panel(), this.limits()];
  }

  about() {
    const { server, storage, unavailable } = this.context.servers;
    const { disk, memory } = server;
    const pair = (label, value, kind = "") => h("div", { key: label }, h("dt", null, label), h("dd", { class: kind }, value));
    const last = storage === null ? null : storage.last_at === null ? "none yet" : `${age(since(storage.last_at))} ago, took ${span(storage.last_seconds)}`;
    return h(
      "section",
      { class: "panel", "aria-label": "About" },
      h("div", { class: "head" }, h("h2", null, "About")),
      h("dl", { class: "pairs" }, [
        pair("Version", server.version),
        pair("Started", time(server.started_at)),
        pair("Up for", span(Math.floor(since(server.started_at)))),
        pair("Keeps jobs", KEPT[server.storage] ?? server.storage),
        server.place === null ? null : pair("Where", h("code", null, server.place)),
        unavailable === null ? null : pair("Unavailable", unavailable, "bad"),
        storage === null ? null : pair("Storing", storage.failing ? `fails: ${storage.problem}` : "works", storage.failing ? "bad" : ""),
        last === null ? null : pair("Last commit", last),
        storage === null || storage.p50_seconds === null ? null : pair("Commits", `${count(storage.commits)}; median ${span(storage.p50_seconds)}, 99th percentile ${span(storage.p99_seconds)}`),
        disk === null ? null : pair("Data file", bytes(disk.file_bytes)),
        disk === null ? null : pair("Free on its disk", `${bytes(disk.free_bytes)} of ${bytes(disk.total_bytes)}`, disk.state === "full" ? "bad" : ""),
        memory === null ? null : pair("Memory", memory.limit_bytes === null ? bytes(memory.used_bytes) : `${bytes(memory.used_bytes)} of ${bytes(memory.limit_bytes)}`),
      ]),
    );
  }

  uses() {
    const rows = this.context.servers.uses().map(({ name, used, limit, state, what }) => {
      const [level, word] = LEVELS[state];
      const share = limit === null || limit === 0 ? null : Math.min(1, used / limit);
      return { key: name, cells: [name, h("span", { class: `state ${level}` }, word), what, share === null ? h("span", { class: "soft" }, "–") : meter(share, state)] };
    });
    return h(
      "section",
      { class: "panel uses", "aria-label": "Usage and bounds" },
      h("div", { class: "head" }, h("h2", null, "Usage and bounds"), h("span", { class: "soft" }, "the fullest first")),
      table({ label: "Usage and bounds", columns: COLUMNS, rows }),
    );
  }

  limits() {
    const found = Object.entries(this.context.servers.limits);
    return h(
      "section",
      { class: "panel", "aria-label": "Limits in force" },
      h("div", { class: "head" }, h("h2", null, "Limits in force"), h("span", { class: "soft" }, "named as in docs/operations.md")),
      h("dl", { class: "pairs inforce" }, found.map(([name, value]) => h("div", { key: name }, h("dt", null, h("code", null, name)), h("dd", null, written(name, value))))),
    );
  }
}

/** A share of a bound as a bar. The row says the same in numbers. */
const meter = (share, state) => h("span", { class: { ok: "meter", near: "meter full", full: "meter bad" }[state] }, h("span", { class: "track", "aria-hidden": "true" }, h("span", { class: "bar", style: { width: `${Math.round(100 * share)}%` } })), h("span", { class: "percent" }, percent(share)));

const percent = (share) => (share > 0 && share < 0.01 ? "< 1 %" : `${Math.floor(share * 100)} %`);

/** A limit's value by the unit that its name ends with. */
function written(name, value) {
  if (name.includes("bytes")) return bytes(value);
  return name.includes("seconds") ? span(value) : count(value);
}
