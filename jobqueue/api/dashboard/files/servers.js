// The servers on one store: who is there, who owns the queue, what lies between them. Nothing where there is one server.

import { call, may, who } from "./api.js";
import { age, count, span } from "./format.js";
import { table } from "./parts.js";
import { h } from "./view.js";

const AGAIN_MS = 1000;
const SILENT_SECONDS = 3.5;
const CLOCK_SECONDS = 0.5;

const COLUMNS = [{ label: "Server", kind: "row" }, { label: "State", kind: "state" }, { label: "Address", kind: "address" }, { label: "Seen", kind: "number" }];
const ROLES = { owner: ["ok", "Owner"], standby: ["ok", "Standby"], front: ["idle", "Front"] };

export class Servers {
  cluster = null;
  unavailable = null;
  storage = null;
  alone = false;
  askedAt = -Infinity;

  /** Ask again, at most once a second; never again where there is nothing to be told. */
  async look() {
    if (this.alone || !may("read") || !who.queues.includes("*") || performance.now() - this.askedAt < AGAIN_MS) return;
    this.askedAt = performance.now();
    try {
      const { cluster, storage, unavailable } = await call("GET", "stats");
      this.alone = cluster === null;
      Object.assign(this, { cluster, storage, unavailable });
    } catch (error) {
      // That a server is not reached is said by whoever reads the queues.
      if (error.status === 401) throw error;
      this.alone = error.status === 404;
    }
  }

  /** What needs a look, worst first: {level, what, why}. */
  wrong() {
    const { cluster, unavailable } = this;
    if (cluster === null) return [];
    const found = [];
    if (cluster.owner === null) found.push({ level: "bad", what: "No server owns the queue", why: "requests are answered 503 until one has claimed it" });
    else if (unavailable !== null) found.push({ level: "bad", what: "The owner cannot be asked", why: unavailable });
    if (cluster.problem !== null) found.push({ level: "warn", what: "This server claims nothing", why: cluster.problem });
    else if (Math.abs(cluster.lag.clock_seconds) > CLOCK_SECONDS) found.push({ level: "warn", what: "This server’s clock is off", why: `it is ${clock(cluster.lag.clock_seconds)} the store’s` });
    const silent = cluster.members.filter((member) => isSilent(member, cluster)).length;
    if (silent > 0) found.push({ level: "warn", what: silent === 1 ? "A server is silent" : `${count(silent)} servers are silent`, why: "gone, standing still, or cut off the store" });
    return found;
  }

  /** The same as a banner of its own, for a page that has nothing else to show; null where all is well. */
  banner() {
    const wrong = this.wrong();
    if (wrong.length === 0) return null;
    return h(
      "section",
      { class: `verdict ${wrong[0].level}`, "aria-label": "Health" },
      h("p", { class: "headline", "aria-live": "polite" }, h("span", { class: "mark", "aria-hidden": "true" }), wrong[0].what),
      h("ul", null, items(wrong)),
    );
  }

  panel() {
    const { cluster } = this;
    if (cluster === null) return null;
    return h(
      "section",
      { class: "panel servers", "aria-label": "Servers" },
      h("div", { class: "head" }, h("h2", null, "Servers"), h("span", { class: "soft" }, cluster.store)),
      this.facts(),
      table({ label: "Servers", columns: COLUMNS, rows: cluster.members.map((member) => row(member, cluster)) }),
    );
  }

  facts() {
    const { cluster, storage } = this;
    const { lag } = cluster;
    const fact = (label, value, kind = "") => h("div", { key: label }, h("dt", null, label), h("dd", { class: kind }, value));
    const commits = storage?.p50_seconds === undefined || storage.p50_seconds === null ? "–" : `${span(storage.p50_seconds)}, 99 % ${span(storage.p99_seconds)}`;
    const standby = cluster.standby === null ? "none" : lag.standby_commits > 0 ? `${count(lag.standby_commits)} commits behind` : "up to date";
    const off = Math.abs(lag.clock_seconds) > CLOCK_SECONDS;
    return h(
      "dl",
      { class: "facts" },
      fact("Owner", cluster.owner === null ? "none" : cluster.owner.name, cluster.owner === null ? "bad" : ""),
      fact("Epoch", count(cluster.epoch)),
      fact("Standby", standby),
      fact("Commit", storage?.failing ? "failing" : commits, storage?.failing ? "bad" : ""),
      lag.renewed_seconds === null ? fact("Owner answers in", span(lag.link_seconds)) : fact("Lease renewed", `${age(lag.renewed_seconds)} ago`),
      fact("Clock", lag.clock_seconds === null ? "–" : `${clock(lag.clock_seconds)} the store’s`, off ? "bad" : ""),
    );
  }
}

/** Seconds since this server heard of the others at all. While the store does not answer it, that they are silent says nothing. */
const heard = (cluster) => cluster.members.find((member) => member.asked)?.seen_seconds ?? 0;

const isSilent = (member, cluster) => member.seen_seconds - heard(cluster) > SILENT_SECONDS;

/** What needs a look as items of a list under the headline, which has said already what the first of them is. */
export const items = (wrong) => wrong.map(({ level, what, why }, at) => h("li", { key: `:${what}`, class: level }, at === 0 ? why : `${what}: ${why}`));

const clock = (ahead) => (Math.abs(ahead) < 0.001 ? "as" : `${span(Math.abs(ahead))} ${ahead > 0 ? "ahead of" : "behind"}`);

function row(member, cluster) {
  const [level, word] = isSilent(member, cluster) ? ["bad", `Silent for ${age(member.seen_seconds)}`] : ROLES[member.role];
  return {
    key: member.name,
    cells: [h("span", null, member.name, member.asked ? h("span", { class: "badge" }, "this server") : null), h("span", { class: `state ${level}` }, word), member.address, `${age(member.seen_seconds)} ago`],
  };
}
