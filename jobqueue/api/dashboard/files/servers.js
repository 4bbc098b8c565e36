// What the server says of itself, and, on a store, of the others: who owns the queue, what lies between them, what is near its bound.

import { call, may, who } from "./api.js";
import { age, count, span } from "./format.js";
import { table } from "./parts.js";
import { h } from "./view.js";

const AGAIN_MS = 1000;

/** One server by itself has less to tell, and what fills up does so slowly. */
const ALONE_MS = 10_000;
const SILENT_SECONDS = 3.5;
const CLOCK_SECONDS = 0.5;

const COLUMNS = [{ label: "Server", kind: "row" }, { label: "State", kind: "state" }, { label: "Address", kind: "address" }, { label: "Seen", kind: "number" }];
const PARTITIONS = [{ label: "Partition", kind: "row" }, { label: "Owner", kind: "address" }, { label: "Standby", kind: "address" }, { label: "Epoch", kind: "number" }, { label: "Lease", kind: "number" }];
const ROLES = { owner: ["ok", "Owner"], standby: ["ok", "Standby"], front: ["idle", "Front"] };

export class Servers {
  cluster = null;
  unavailable = null;
  storage = null;
  server = null;
  bounds = [];
  limits = {};
  alone = false;
  unknown = false;
  askedAt = -Infinity;

  /** Whether the token may know of the server: it holds for every queue. */
  get told() {
    return may("read") && who.queues.includes("*");
  }

  /** Ask again, at most once in so many ms; never again where there is nothing to be told. */
  async look(every = this.alone ? ALONE_MS : AGAIN_MS) {
    if (this.unknown || !this.told || performance.now() - this.askedAt < every) return;
    this.askedAt = performance.now();
    try {
      const { cluster, storage, unavailable, server, bounds, limits } = await call("GET", "stats");
      this.alone = cluster === null;
      Object.assign(this, { cluster, storage, unavailable, server, bounds, limits });
    } catch (error) {
      // That a server is not reached is said by whoever reads the queues.
      if (error.status === 401) throw error;
      this.unknown = error.status === 404;
    }
  }

  /** What needs a look, worst first: {level, what, why, href}. */
  wrong() {
    const found = [...this.store(), ...this.full()];
    return found.sort((one, other) => (one.level === "bad" ? 0 : 1) - (other.level === "bad" ? 0 : 1));
  }

  /** What fills up, or cannot be written any more. */
  full() {
    const { storage, server } = this;
    const href = "#/server";
    const found = [];
    if (storage?.failing) found.push({ level: "bad", what: "Changes cannot be stored", why: storage.problem ?? "requests that change something are answered 503", href });
    for (const { name, state, what } of server === null ? [] : this.uses()) if (state !== "ok") found.push({ level: state === "full" ? "bad" : "warn", what: `${name}: ${state === "full" ? "full" : "nearly full"}`, why: name === "Disk" && state === "full" ? `${what}; when no space is left, changes are refused` : what, href });
    return found;
  }

  /** Everything that has a bound, what needs a look first: {name, used, limit, state, what}. used and limit: numbers, limit null for none. */
  uses() {
    const { disk, memory } = this.server;
    const found = this.bounds.map(({ name, used, limit, state }) => use(...(BOUNDS[name] ?? [name.replaceAll("_", " "), count]), used, limit, state));
    if (memory !== null) found.unshift(use("Memory", bytes, memory.used_bytes, memory.limit_bytes, memory.state));
    if (disk !== null) found.unshift({ ...use("Disk", bytes, disk.total_bytes - disk.free_bytes, disk.total_bytes, disk.state), what: `${bytes(disk.free_bytes)} of ${bytes(disk.total_bytes)} free` });
    return found.sort((one, other) => STATES.indexOf(one.state) - STATES.indexOf(other.state));
  }

  /** What is wrong between the servers on a store. */
  store() {
    const { cluster, unavailable } = this;
    if (cluster === null) return [];
    const found = [];
    const missing = ownerless(cluster);
    if (missing.length > 0) found.push({ level: "bad", what: missing.length === 1 ? `No server owns partition ${missing[0]}` : `No server owns ${count(missing.length)} partitions`, why: "requests for their queues are answered 503 until one has claimed them" });
    else if (cluster.owner === null && cluster.partitions.length === 0) found.push({ level: "bad", what: "No server owns the queue", why: "requests are answered 503 until one has claimed it" });
    else if (unavailable !== null) found.push({ level: "bad", what: "The owner cannot be reached", why: unavailable });
    if (cluster.problem !== null) found.push({ level: "warn", what: "This server cannot become the owner", why: cluster.problem });
    else if (Math.abs(cluster.lag.clock_seconds) > CLOCK_SECONDS) found.push({ level: "warn", what: "This server’s clock is off", why: `it is ${clock(cluster.lag.clock_seconds)} the store’s` });
    const silent = cluster.members.filter((member) => isSilent(member, cluster)).length;
    if (silent > 0) found.push({ level: "warn", what: silent === 1 ? "A server is silent" : `${count(silent)} servers are silent`, why: "stopped, suspended, or cut off from the store" });
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
      cluster.partitions.length === 0 ? null : table({ label: "Partitions", columns: PARTITIONS, rows: cluster.partitions.map(place) }),
    );
  }

  facts() {
    const { cluster, storage } = this;
    const { lag } = cluster;
    const fact = (label, value, kind = "") => h("div", { key: label }, h("dt", null, label), h("dd", { class: kind }, value));
    const commits = storage?.p50_seconds === undefined || storage.p50_seconds === null ? "–" : `${span(storage.p50_seconds)}, 99 % ${span(storage.p99_seconds)}`;
    const several = cluster.partitions.length > 0;
    const missing = ownerless(cluster).length;
    const cold = several ? cluster.partitions.some(({ owner, standby }) => owner?.name === cluster.name && standby === null) : cluster.standby === null;
    const standby = cold ? (several ? "missing" : "none") : lag.standby_commits > 0 ? `${count(lag.standby_commits)} commits behind` : "up to date";
    const off = Math.abs(lag.clock_seconds) > CLOCK_SECONDS;
    return h(
      "dl",
      { class: "facts" },
      several
        ? fact("Partitions", missing === 0 ? count(cluster.partitions.length) : `${count(missing)} of ${count(cluster.partitions.length)} without an owner`, missing === 0 ? "" : "bad")
        : fact("Owner", cluster.owner === null ? "none" : cluster.owner.name, cluster.owner === null ? "bad" : ""),
      fact("Epoch", count(cluster.epoch)),
      fact("Standby", standby),
      fact("Commit", storage?.failing ? "failing" : commits, storage?.failing ? "bad" : ""),
      lag.renewed_seconds === null ? fact("Owner answers in", span(lag.link_seconds)) : fact("Lease renewed", `${age(lag.renewed_seconds)} ago`),
      fact("Clock", lag.clock_seconds === null ? "–" : `${clock(lag.clock_seconds)} the store’s`, off ? "bad" : ""),
    );
  }
}

/** The partitions that have no owner; none if the store has one partition. */
const ownerless = (cluster) => cluster.partitions.filter(({ owner }) => owner === null).map(({ index }) => index);

/** Seconds since this server heard of the others at all. While the store does not answer it, that they are silent says nothing. */
const heard = (cluster) => cluster.members.find((member) => member.asked)?.seen_seconds ?? 0;

const isSilent = (member, cluster) => member.seen_seconds - heard(cluster) > SILENT_SECONDS;

/** What needs a look as items of a list under the headline, which has said already what the first of them is. */
export const items = (wrong) => wrong.map(({ level, what, why, href }, at) => h("li", { key: `:${what}`, class: level }, href === undefined ? (at === 0 ? why : `${what}: ${why}`) : [h("a", { href }, at === 0 ? "Server" : what), ` ${why}`]));

const UNITS = ["bytes", "KiB", "MiB", "GiB", "TiB"];

/** 512 bytes, 1.5 MiB, 20 GiB. */
export function bytes(number) {
  const at = Math.min(UNITS.length - 1, Math.max(0, Math.floor(Math.log2(Math.max(1, number)) / 10)));
  const value = number / 1024 ** at;
  return `${at === 0 || value >= 9.95 ? count(Math.round(value)) : value.toFixed(1)} ${UNITS[at]}`;
}

const STATES = ["full", "near", "ok"];

/** What is bounded, by the API's name: in words, and how its numbers are written. */
const BOUNDS = {
  jobs_live: ["Jobs that are not concluded", count],
  payload_bytes: ["Bytes of these jobs", bytes],
  queues: ["Queues", count],
  groups: ["Groups that are not concluded", count],
  edges: ["Jobs that other jobs wait for", count],
  unique_windows: ["Unique keys held for a time", count],
  waiters: ["Held requests", count],
  listeners: ["Event listeners", count],
  connections: ["Connections", count],
  unread_bytes: ["Bytes of requests not served yet", bytes],
  unsent_bytes: ["Bytes of responses not read yet", bytes],
  unwritten_bytes: ["Bytes that wait to be stored", bytes],
};

const use = (name, write, used, limit, state) => ({ name, used, limit, state, what: limit === null ? write(used) : `${write(used)} of ${write(limit)}` });

const clock = (ahead) => (Math.abs(ahead) < 0.001 ? "the same as" : `${span(Math.abs(ahead))} ${ahead > 0 ? "ahead of" : "behind"}`);

function place({ index, owner, epoch, lease_left_seconds, standby, standby_commits }) {
  const behind = standby_commits > 0 ? `${standby}, ${count(standby_commits)} commits behind` : standby;
  return {
    key: `partition ${index}`,
    cells: [count(index), owner === null ? h("span", { class: "state bad" }, "none") : owner.name, behind ?? "–", count(epoch), lease_left_seconds === null ? "–" : span(lease_left_seconds)],
  };
}

function row(member, cluster) {
  const [level, word] = isSilent(member, cluster) ? ["bad", `Silent for ${age(member.seen_seconds)}`] : ROLES[member.role];
  return {
    key: member.name,
    cells: [h("span", null, member.name, member.asked ? h("span", { class: "badge" }, "this server") : null), h("span", { class: `state ${level}` }, word), member.address, `${age(member.seen_seconds)} ago`],
  };
}
