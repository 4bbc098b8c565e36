import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";

import { Client, Discard, JobFailed, Worker } from "jobqueue-client";

import { aQueue, signal, watched } from "./helpers.js";

const client = new Client();
const quietly = { log: () => {} };

/** Run a worker while `during` does its work, then stop it. */
async function working(worker, during) {
  worker.start();
  try {
    await during();
  } finally {
    await worker.stop();
  }
}

test("a worker concludes jobs with the results of its handler", async () => {
  const queue = aQueue();
  await working(new Worker(client, { queue }, async (job) => job.payload * 2), async () => {
    const made = await Promise.all([1, 2, 3].map((n) => client.enqueue(n, { queue })));
    assert.deepEqual(await Promise.all(made.map(({ id }) => client.result(id))), [2, 4, 6]);
  });
});

test("as many jobs run at once as its concurrency says, and no more", async () => {
  const queue = aQueue();
  const three = signal();
  let most = 0;
  const worker = new Worker(client, { queue, concurrency: 3 }, async () => {
    most = Math.max(most, worker.running);
    if (worker.running === 3) three.resolve();
    await three.promise;
  });
  await working(worker, async () => {
    const made = await Promise.all([1, 2, 3, 4, 5].map((n) => client.enqueue(n, { queue })));
    await Promise.all(made.map(({ id }) => client.result(id)));
  });
  assert.equal(most, 3);
});

test("a handler that throws fails the attempt with its error, and the job is tried again", async () => {
  const queue = aQueue();
  const lines = [];
  const seen = [];
  const worker = new Worker(client, { queue, log: (line) => lines.push(line) }, (job) => {
    seen.push(job.error);
    if (job.attempts === 1) throw new RangeError("no such page");
    return "done";
  });
  await working(worker, async () => {
    const { id } = await client.enqueue(1, { queue, backoff: { base: 0 } });
    assert.equal(await client.result(id), "done");
    assert.ok(lines[0].endsWith(`job ${id}, attempt 1: RangeError: no such page`), lines[0]);
  });
  assert.deepEqual(seen, [null, { type: "RangeError", message: "no such page" }]);
});

test("a handler that throws Discard fails the job for good", async () => {
  const queue = aQueue();
  const worker = new Worker(client, { queue, ...quietly }, () => {
    throw new Discard("no such address");
  });
  await working(worker, async () => {
    const { id } = await client.enqueue(1, { queue, max_attempts: 5 });
    await assert.rejects(client.result(id), (error) => {
      assert.ok(error instanceof JobFailed);
      assert.deepEqual(error.job.error, { type: "Discard", message: "no such address" });
      return error.job.attempts === 1;
    });
  });
});

for (const [name, result] of [["is no JSON", 1n], ["is too large", "x".repeat(2 ** 21)]]) {
  test(`a result that ${name} fails the job, with the reason as its error`, async () => {
    const queue = aQueue();
    await working(new Worker(client, { queue, ...quietly }, () => result), async () => {
      const { id } = await client.enqueue(1, { queue, max_attempts: 1 });
      await assert.rejects(client.result(id), (error) => error instanceof JobFailed && error.job.error.message.length > 0);
    });
  });
}

test("heartbeats keep the lease of a job that takes longer than that, and tell its progress", async () => {
  const queue = aQueue();
  const enough = signal();
  let beats = 0;
  const after = (path, body, response) => {
    if (path.endsWith("/extend") && ++beats === 5) enough.resolve(); // five of a third of a second each: the first lease is over
    return response;
  };
  const worker = new Worker(new Client({ fetch: watched({ after }) }), { queue, lease_seconds: 1 }, async (job) => {
    job.report(0.25, "page 1 of 4");
    await enough.promise;
    const { progress, message } = await client.job(job.id);
    return { progress, message, attempts: job.attempts };
  });
  await working(worker, async () => {
    const { id } = await client.enqueue(1, { queue });
    assert.deepEqual(await client.result(id), { progress: 0.25, message: "page 1 of 4", attempts: 1 });
  });
});

test("the handler of a job that is cancelled is told by its signal", async () => {
  const queue = aQueue();
  const begun = signal();
  const reasons = [];
  const worker = new Worker(client, { queue, lease_seconds: 1, ...quietly }, async (job) => {
    begun.resolve();
    await once(job.signal, "abort");
    reasons.push(job.signal.reason.code);
  });
  await working(worker, async () => {
    const { id } = await client.enqueue(1, { queue });
    await begun.promise;
    await client.cancel(id);
    assert.equal((await client.job(id, { wait: 30 })).outcome, "cancelled");
  });
  assert.deepEqual(reasons, ["cancelled"]);
});

test("a handler that lost its lease is told by its signal, and what it did is dropped", async () => {
  const queue = aQueue();
  const reasons = [];
  const worker = new Worker(client, { queue, lease_seconds: 1, ...quietly }, async (job) => {
    if (job.attempts === 2) return "of the second";
    await client.extend(job.id, job.lease.token, { lease_seconds: 0 });
    await once(job.signal, "abort");
    reasons.push(job.signal.reason.code);
    return "of the first";
  });
  await working(worker, async () => {
    const { id } = await client.enqueue(1, { queue });
    assert.equal(await client.result(id), "of the second");
  });
  assert.deepEqual(reasons, ["lease_lost"]);
});

test("stopping lets what runs finish, and takes nothing more", async () => {
  const queue = aQueue();
  const begun = signal();
  const finish = signal();
  const worker = new Worker(client, { queue, concurrency: 2 }, async () => {
    begun.resolve();
    await finish.promise;
    return "finished";
  });
  worker.start();
  const running = await client.enqueue(1, { queue });
  await begun.promise;
  const stopped = worker.stop();
  await worker.ended();
  const later = await client.enqueue(2, { queue });
  finish.resolve();
  await stopped;
  assert.equal(await client.result(running.id, { wait: 0 }), "finished");
  assert.equal((await client.job(later.id)).status, "queued");
});

test("stopping gives back a job that was taken and not begun", async () => {
  const queue = aQueue();
  const taken = signal();
  const held = signal();
  let answers = 0;
  const after = async (path, body, response) => {
    if (path === "/jobs/dequeue" && response.status === 200 && answers++ === 0) {
      taken.resolve();
      await held.promise; // its answer is on its way while the worker is stopped
    }
    return response;
  };
  let begun = 0;
  const worker = new Worker(new Client({ fetch: watched({ after }) }), { queue }, () => void begun++);
  worker.start();
  const { id } = await client.enqueue(1, { queue });
  await taken.promise;
  const stopped = worker.stop();
  held.resolve();
  await stopped;
  const job = await client.job(id);
  assert.deepEqual([begun, job.status, job.attempts], [0, "queued", 0]);
});

test("what still runs when the grace is over is interrupted and given back", async () => {
  const queue = aQueue();
  const begun = signal();
  const worker = new Worker(client, { queue, ...quietly }, async (job) => {
    begun.resolve();
    await once(job.signal, "abort");
    return job.signal.reason.code;
  });
  worker.start();
  const { id } = await client.enqueue(1, { queue });
  await begun.promise;
  await worker.stop({ grace_seconds: 0 });
  const job = await client.job(id);
  assert.deepEqual([job.status, job.attempts, worker.running], ["queued", 0, 0]);
});

test("a worker that the server refuses ends with the error", async () => {
  const worker = new Worker(client, { queue: "not a name" }, () => {});
  await assert.rejects(worker.run(), { code: "bad_request", field: "queue" });
});

test("a worker outlives a server that is away, and says so once", async () => {
  const queue = aQueue();
  const lines = [];
  let asked = 0;
  const away = async (url, options) => {
    if (++asked <= 7) throw new TypeError("fetch failed");
    return fetch(url, options);
  };
  const worker = new Worker({ fetch: away }, { queue, log: (line) => lines.push(line) }, () => "done");
  await working(worker, async () => {
    const { id } = await client.enqueue(1, { queue });
    assert.equal(await client.result(id), "done");
  });
  assert.deepEqual(lines.length, 1);
});

test("a process that is sent SIGTERM finishes its job and ends by itself", async () => {
  const queue = aQueue();
  const program = `
    import { Client, Worker } from "jobqueue-client";
    const worker = new Worker(new Client(), { queue: "${queue}" }, async (job) => {
      process.once("SIGTERM", () => process.stdin.resume().once("end", () => finish("finished")));
      let finish;
      const finished = new Promise((resolve) => (finish = resolve));
      console.log("begun");
      return finished;
    });
    await worker.run();
  `;
  const { id } = await client.enqueue(1, { queue });
  const child = spawn(process.execPath, ["--input-type=module", "--eval", program], { cwd: new URL("..", import.meta.url), stdio: ["pipe", "pipe", "inherit"] });
  try {
    assert.equal(String((await once(child.stdout, "data"))[0]), "begun\n");
    const closed = once(child, "close");
    child.kill("SIGTERM");
    child.stdin.end();
    assert.deepEqual(await closed, [0, null]);
  } finally {
    child.kill("SIGKILL");
  }
  assert.equal(await client.result(id, { wait: 0 }), "finished");
});

test("options that cannot be are refused by name", () => {
  assert.throws(() => new Worker(client, { concurrency: 0 }, () => {}), /^RangeError: concurrency: /);
  assert.throws(() => new Worker(client, { lease_seconds: 0.5 }, () => {}), /^RangeError: lease_seconds: /);
  assert.throws(() => new Worker(client, {}), /^TypeError: handler: /);
});
