// bunqueue's own client, in Bun: `add`, which shares calls by itself, `addBulk`; a Worker.
import { createRequire } from "node:module";
import path from "node:path";

const require = createRequire(path.join(path.resolve(process.env.BENCH_NODE ?? "."), "x.js"));
const { Queue, Worker } = await import(require.resolve("bunqueue/client"));

export const ABREAST = 16;

function connection(address) {
  const [host, port] = address.split(":");
  return { host, port: Number(port) };
}

export async function producer(address) {
  const queue = new Queue("bench", { connection: connection(address) });
  return {
    one: (payload) => queue.add("noop", { payload }),
    many: (payload, count) => queue.addBulk(Array.from({ length: count }, () => ({ name: "noop", data: { payload } }))),
    close: () => queue.close(),
  };
}

export function work(address, handled) {
  // By default it asks again each 50 ms, which no user who minds how soon jobs start would keep.
  const options = { connection: connection(address), concurrency: 16, pollTimeout: 5_000, removeOnComplete: true };
  new Worker("bench", async (job) => handled(job.data.payload), options);
}
