// What actor.py and marks.py are, for libraries of JavaScript: `bun|node actor.mjs ROLE MODULE ADDRESS [COUNT]`. A module has what one of
// Python has: ABREAST, producer(address) with one(payload), many(payload, count) and close(), work(address, handled), and
// crowd(address, count, handled) where there is one.
import fs from "node:fs";

const DIGITS = 19, EVERY = 100, BATCH = 100, QUOTES = 2;
const PAYLOAD = "x".repeat(200 - QUOTES);
const [role, name, address, count] = process.argv.slice(2);
const fifo = process.env.BENCH_MARKS ? fs.openSync(process.env.BENCH_MARKS, "r+") : -1;
const each = Number(process.env.BENCH_MARKS_EACH ?? 0);

// Nanoseconds of Linux's monotonic clock, which the other processes read too. Bun counts from its own start, on the same clock.
const bootedAt = await (async () => {
  if (!process.versions.bun) return 0n;
  const { dlopen, ptr } = await import("bun:ffi");
  const libc = dlopen("libc.so.6", { clock_gettime: { args: ["i32", "ptr"], returns: "i32" } });
  const now = new BigInt64Array(2);
  libc.symbols.clock_gettime(1, ptr(now));
  return now[0] * 1_000_000_000n + now[1] - process.hrtime.bigint();
})();
const monotonic = () => process.hrtime.bigint() + bootedAt;

const mark = (value) => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64LE(value);
  fs.writeSync(fifo, bytes);
};

let handledCount = 0;
function handled(payload) {
  const now = monotonic();
  if (payload[0] !== "x") return mark(now - BigInt(payload.slice(0, DIGITS)));
  handledCount += 1;
  if (handledCount <= each || (handledCount - each) % EVERY === 0) mark(now);
}

class Lines {
  constructor() {
    this.whole = [];
    this.rest = "";
    this.wake = () => {};
    this.ended = false;
    process.stdin.on("data", (part) => {
      const lines = (this.rest + part).split("\n");
      this.rest = lines.pop();
      this.whole.push(...lines);
      this.wake();
    });
    process.stdin.on("end", () => { this.ended = true; this.wake(); });
  }
  async next() {
    while (this.whole.length === 0 && !this.ended) await new Promise((wake) => { this.wake = wake; });
    return this.whole.shift() ?? "";
  }
}

async function abreast(several, begin) {
  await Promise.all(Array.from({ length: several }, begin));
}

async function pickup(producer, count) {
  const found = [], bytes = Buffer.alloc(8);
  for (let number = 0; number < count; number += 1) {
    await new Promise((wake) => setTimeout(wake, 8 + 8 * Math.random()));
    const started = monotonic();
    await producer.one(PAYLOAD);
    fs.readSync(fifo, bytes);
    found.push(Number(bytes.readBigInt64LE() - started));
  }
  return found;
}

async function produce(module) {
  const producer = await module.producer(address);
  const lines = new Lines();
  console.log("ready");
  for (let line = await lines.next(); line; line = await lines.next()) {
    const [what, text, size] = line.split(" ");
    const count = Number(text), payload = "x".repeat(Number(size ?? 200) - QUOTES);
    let answer = null, left = count;
    if (what === "pickup") answer = await pickup(producer, count);
    else if (what === "single") {
      await abreast(Math.min(module.ABREAST, count), async () => { while (left-- > 0) await producer.one(payload); });
    } else if (what === "batch") {
      await abreast(Math.min(module.ABREAST, 4), async () => {
        while (left > 0) {
          const some = Math.min(BATCH, left);
          left -= some;
          await producer.many(payload, some);
        }
      });
    } else {
      const calls = [];
      while (left-- > 0) calls.push(producer.one((await lines.next()) + PAYLOAD.slice(DIGITS)));
      await Promise.all(calls);
    }
    console.log(JSON.stringify(answer));
  }
  await producer.close();
  process.exit(0);
}

for (const event of ["uncaughtException", "unhandledRejection"]) {
  process.on(event, (error) => { console.error(String(error).replaceAll("\n", " ")); process.exit(1); });
}
const module = await import(`./${name}.mjs`);
if (role === "produce") await produce(module);
else if (role === "work") await module.work(address, handled);
else if (role === "crowd") await module.crowd(address, Number(count), handled);
