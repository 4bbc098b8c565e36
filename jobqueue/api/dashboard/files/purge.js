/** Ending what lives in a queue: what waits, or all of it, or the queue with it. */

import { call, place } from "./api.js";
import { count } from "./format.js";
import { button, opened, sure } from "./parts.js";
import { h } from "./view.js";

const path = (name, operation, query) => {
  const at = place("queues", name, operation);
  return query === "" ? at : `${at}${at.includes("?") ? "&" : "?"}${query}`;
};

/** Ask whether to purge a queue, and of what; what is to be done then, null for nothing. */
export async function purging(queue) {
  const { name } = queue;
  const waiting = queue.queued + queue.scheduled;
  const text = `All jobs that are queued or scheduled, ${count(waiting)} now, are cancelled. Jobs in progress, ${count(queue.in_progress)} now, continue. If you end them too, halted keys go on and unique keys are released.`;
  const query = await opened(`Purge ${name}?`, (close) => [
    h("p", null, text),
    h("div", { class: "actions end" }, button("Keep as it is", () => close(null)), button("End those in progress too", () => close("all=true"), { kind: "danger" }), button("Purge", () => close(""), { kind: "danger" })),
  ]);
  return query === null ? null : async () => `${count((await call("POST", path(name, "/purge", query))).purged)} jobs of ${name} cancelled`;
}

/** Ask whether to delete a queue, with what lives in it; what is to be done then, null for nothing. */
export async function deleting(queue) {
  const { name } = queue;
  const live = queue.queued + queue.scheduled + queue.in_progress;
  const text = live === 0 ? "Its policy is deleted too. History keeps its jobs. The next job creates the queue again." : `Its live jobs, ${count(live)} now, are cancelled, those in progress too. Its policy is deleted too. The next job creates the queue again.`;
  if (!(await sure(`Delete ${name}?`, text, "Delete", true))) return null;
  return async () => {
    await call("DELETE", path(name, "", live === 0 ? "" : "force=true"));
    location.hash = "#/";
  };
}
