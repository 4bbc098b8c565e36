// The policy editor.

import { call, place } from "./api.js";
import { button, field, opened, toast } from "./parts.js";
import { h } from "./view.js";

const FIELDS = [
  ["lease_seconds", "Lease, in seconds", "How long a lease holds, if neither the dequeue nor the job says.", (policy) => policy.lease_seconds],
  ["max_attempts", "Attempts at most", "Before a failure is final.", (policy) => policy.max_attempts],
  ["base", "Backoff: base, in seconds", "The longest wait before the second attempt.", (policy) => policy.backoff.base],
  ["factor", "Backoff: factor", "How many times longer each further wait may be.", (policy) => policy.backoff.factor],
  ["cap", "Backoff: cap, in seconds", "What no wait exceeds.", (policy) => policy.backoff.cap],
  ["max_jobs", "Jobs at most", "Live jobs it may hold. Empty: only the server’s bound.", (policy) => policy.max_jobs ?? ""],
];

/** Edit a queue's policy in a dialog; whether it was set. */
export async function editPolicy(queue) {
  const values = Object.fromEntries(FIELDS.map(([name, , , read]) => [name, String(read(queue.policy))]));
  let wrong = {};
  return (await opened(`Policy of ${queue.name}`, (close, draw) => {
    const save = async (event) => {
      event.preventDefault();
      wrong = {};
      const number = (name) => (values[name].trim() === "" ? null : Number(values[name]));
      const bad = FIELDS.find(([name]) => Number.isNaN(number(name)) || (name !== "max_jobs" && number(name) === null));
      if (bad !== undefined) wrong = { [bad[0]]: "A number is needed." };
      else {
        const policy = {
          lease_seconds: number("lease_seconds"),
          max_attempts: number("max_attempts"),
          backoff: { base: number("base"), factor: number("factor"), cap: number("cap") },
          max_jobs: number("max_jobs"),
          paused: queue.policy.paused,
        };
        try {
          await call("PUT", place("queues", queue.name), policy);
          toast(`Policy of ${queue.name} set`);
          close(true);
          return;
        } catch (error) {
          const name = (error.field ?? "").replace(/^backoff\./, "");
          wrong = { [name in values ? name : ""]: error.message };
        }
      }
      draw();
      document.getElementById(`field-${Object.keys(wrong)[0]}`)?.focus();
    };
    return h(
      "form",
      { class: "form", novalidate: true, onsubmit: save },
      h("p", { class: "soft" }, "It holds at once, also for jobs that are in the queue. Leases that are out keep their length."),
      h(
        "div",
        { class: "grid" },
        FIELDS.map(([name, label, hint]) => field(name, label, h("input", { type: "text", inputmode: "decimal", autocomplete: "off", value: values[name], oninput: (event) => (values[name] = event.target.value) }), { hint, wrong: wrong[name] ?? null })),
      ),
      wrong[""] === undefined ? null : h("p", { class: "hint bad", role: "alert" }, wrong[""]),
      h("div", { class: "actions end" }, button("Keep as it is", () => close(null)), h("button", { class: "button primary", type: "submit" }, "Set policy")),
    );
  })) === true;
}
