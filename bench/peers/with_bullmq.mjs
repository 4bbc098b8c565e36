// BullMQ, in Node, on Valkey: `add`, `addBulk`; a Worker.
import { createRequire } from "node:module";
import path from "node:path";

const require = createRequire(path.join(path.resolve(process.env.BENCH_NODE ?? "."), "x.js"));
const { Queue, Worker } = require("bullmq");

export const ABREAST = 16;

function connection(address) {
  const [host, port] = address.split(":");
  return { host, port: Number(port), maxRetriesPerRequest: null };
}

const GONE = { removeOnComplete: true, removeOnFail: true };

export async function producer(address) {
  const queue = new Queue("bench", { connection: connection(address), defaultJobOptions: GONE });
  await queue.waitUntilReady();
  return {
    one: (payload) => queue.add("noop", { payload }),
    many: (payload, count) => queue.addBulk(Array.from({ length: count }, () => ({ name: "noop", data: { payload } }))),
    close: () => queue.close(),
  };
}

export function work(address, handled) {
  new Worker("bench", async (job) => handled(job.data.payload), { connection: connection(address), concurrency: 16 });
}
