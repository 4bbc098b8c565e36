import assert from "node:assert/strict";
import { test } from "node:test";

import { Client, JobFailed, NoAnswer, QueueError, UnexpectedAnswer, WaitTimeout } from "jobqueue-client";

import { aQueue, URL_OF_SERVER, watched } from "./helpers.js";

const client = new Client();

test("a job that is enqueued again under its id is the same job", async () => {
  const queue = aQueue();
  const first = await client.enqueue({ n: 1 }, { id: `${queue}/7?`, queue });
  const again = await client.enqueue({ n: 1 }, { id: `${queue}/7?`, queue });
  assert.deepEqual([first.created, again.created, again.id], [true, false, `${queue}/7?`]);
  assert.deepEqual((await client.job(first.id)).payload, { n: 1 });
});

test("an enqueue whose answer is lost is repeated and makes one job", async () => {
  const queue = aQueue();
  let lost = 0;
  const after = (path, body, response) => {
    if (lost++ === 0) throw new TypeError("the connection was lost");
    return response;
  };
  const made = await new Client({ fetch: watched({ after }) }).enqueue("x", { queue });
  assert.equal(made.created, false);
  assert.equal((await client.dequeue({ queue, wait: 0 })).id, made.id);
  assert.equal(await client.dequeue({ queue, wait: 0 }), null);
});

test("a dequeue whose answer is lost is repeated and is the same attempt", async () => {
  const queue = aQueue();
  await client.enqueue("x", { queue });
  let lost = 0;
  const after = (path, body, response) => {
    if (lost++ === 0) throw new TypeError("the connection was lost");
    return response;
  };
  const job = await new Client({ fetch: watched({ after }) }).dequeue({ queue, wait: 0 });
  assert.deepEqual([job.payload, job.attempts, lost], ["x", 1, 2]);
});

test("what the server refuses has the API's code and field, and is asked once", async () => {
  let asked = 0;
  const once = new Client({ fetch: watched({ before: () => void asked++ }) });
  await assert.rejects(once.enqueue(1, { queue: aQueue(), priority: 12 }), (error) => {
    assert.ok(error instanceof QueueError);
    assert.deepEqual([error.code, error.field, error.status], ["bad_request", "priority", 400]);
    return error.message.includes("12");
  });
  assert.equal(asked, 1);
  await assert.rejects(client.job("no-such-job"), { code: "unknown_job", field: null });
});

test("another job under the id of one that exists is an id_conflict", async () => {
  const queue = aQueue();
  await client.enqueue(1, { id: queue, queue });
  await assert.rejects(client.enqueue(2, { id: queue, queue }), { code: "id_conflict", field: "payload" });
});

test("who waits for a result is answered it once there is one", async () => {
  const queue = aQueue();
  const { id } = await client.enqueue("x", { queue });
  const waiting = client.result(id, { wait: 30 });
  const job = await client.dequeue({ queue });
  assert.equal((await client.extend(id, job.lease.token, { progress: 0.5 })).cancel_requested, false);
  await client.conclude(id, job.lease.token, { outcome: "succeeded", result: { words: 3 } });
  assert.deepEqual(await waiting, { words: 3 });
});

test("a wait longer than the server holds a request goes on in several requests", async () => {
  const queue = aQueue();
  const waits = [];
  const { id } = await client.enqueue("x", { queue });
  const before = async (path) => {
    if (path !== `/jobs/${id}`) return;
    // The server at JOBQUEUE_URL is started with --max-wait 1 --default-wait 1.
    if (waits.push(path) < 4) return;
    const job = await client.dequeue({ queue, wait: 0 });
    await client.conclude(id, job.lease.token, { outcome: "succeeded", result: 1 });
  };
  assert.equal(await new Client({ fetch: watched({ before }) }).result(id, { wait: 500 }), 1);
  assert.equal(waits.length, 4);
});

test("a job that failed is a JobFailed with the job and its error", async () => {
  const queue = aQueue();
  const { id } = await client.enqueue("x", { queue });
  const job = await client.dequeue({ queue });
  await client.conclude(id, job.lease.token, { outcome: "failed", error: { type: "Full", message: "no room" }, retry: false });
  await assert.rejects(client.result(id), (error) => {
    assert.ok(error instanceof JobFailed);
    assert.deepEqual(error.job.error, { type: "Full", message: "no room" });
    return error.message.endsWith("ended as failed: no room");
  });
});

test("a job that does not end in time is a WaitTimeout with its id", async () => {
  const { id } = await client.enqueue("x", { queue: aQueue() });
  await assert.rejects(client.result(id, { wait: 0 }), (error) => error instanceof WaitTimeout && error.jobId === id);
});

test("a job that was given back is another worker's, and the attempt does not count", async () => {
  const queue = aQueue();
  await client.enqueue("x", { queue });
  const first = await client.dequeue({ queue });
  await client.release(first.id, first.lease.token);
  assert.equal((await client.dequeue({ queue })).attempts, 1);
});

test("a server that is away is a NoAnswer with its address", async () => {
  const away = new Client({ url: "http://127.0.0.1:1", tries: 2 });
  await assert.rejects(away.job("x"), (error) => error instanceof NoAnswer && error.message.includes("http://127.0.0.1:1"));
});

test("an answer that is not the server's is an UnexpectedAnswer with its status", async () => {
  const proxy = new Client({ fetch: async () => new Response("<h1>Not here</h1>", { status: 404 }) });
  await assert.rejects(proxy.job("x"), (error) => error instanceof UnexpectedAnswer && error.status === 404);
});

test("options that cannot be are refused by name", () => {
  assert.throws(() => new Client("127.0.0.1:8080"), /^TypeError: url: /);
  assert.throws(() => new Client({ timeout: 0 }), /^RangeError: timeout: /);
  assert.throws(() => new Client({ url: URL_OF_SERVER, tries: 0 }), /^RangeError: tries: /);
});
