// Every request that the client makes. The tests hold this table, and the interfaces it names in index.d.ts, to the server's OpenAPI document.

/** @typedef {{ method: string, path: string, sends: string | null, query: string[], answers: string, empty?: boolean }} Operation */

/** By name. `sends` and `answers` are interfaces of index.d.ts; `empty`: the server may answer 204, without a body. */
export const OPERATIONS = {
  enqueue: { method: "POST", path: "/jobs/enqueue", sends: "EnqueueBody", query: [], answers: "Enqueued" },
  dequeue: { method: "POST", path: "/jobs/dequeue", sends: "DequeueBody", query: [], answers: "Dequeued", empty: true },
  extend: { method: "POST", path: "/jobs/{id}/extend", sends: "ExtendBody", query: [], answers: "Extended" },
  conclude: { method: "POST", path: "/jobs/{id}/conclude", sends: "ConcludeBody", query: [], answers: "Concluded" },
  release: { method: "POST", path: "/jobs/{id}/release", sends: "ReleaseBody", query: [], answers: "Job" },
  job: { method: "GET", path: "/jobs/{id}", sends: null, query: ["wait"], answers: "Job" },
  cancel: { method: "POST", path: "/jobs/{id}/cancel", sends: null, query: [], answers: "Job" },
};
