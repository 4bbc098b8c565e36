// A queue of the test's own on the server at JOBQUEUE_URL, and a fetch that a test may look into.
import { randomUUID } from "node:crypto";

export const URL_OF_SERVER = process.env.JOBQUEUE_URL;
if (!URL_OF_SERVER) throw new Error("JOBQUEUE_URL is not set: start `jobqueue serve` and say where it is");

export const aQueue = () => `q-${randomUUID()}`;

/** A fetch that calls `before(path, body)` and, with the answer, `after(path, body, response)`, whose result is answered in its place. */
export function watched({ before = () => {}, after = (path, body, response) => response }) {
  return async (url, options) => {
    const path = new URL(url).pathname;
    const body = options.body === undefined ? undefined : JSON.parse(options.body);
    await before(path, body);
    return after(path, body, await fetch(url, options));
  };
}

/** A promise with its resolve. */
export function signal() {
  let resolve;
  const promise = new Promise((done) => (resolve = done));
  return { promise, resolve };
}
