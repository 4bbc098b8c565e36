// When to look again: the server's events say so; where there are none, each second.
//
// An event is only a reason to look: what is shown is always read from the API. So nothing depends on every event being seen.

import { address, headers, may } from "./api.js";

const SOON_MS = 200;
/** Between two looks that events asked for. */

const POLL_MS = 1000;
const RATES_MS = 12_000;
const IDLE_MS = 5000;
/** While nothing happens: events do not tell of everything, such as who waits. And while nobody sees the page. */

const FLOOD = 400;
/** Events a second from which on looking each second is cheaper for both sides. */

const AGAIN_MS = 15_000;

export class Live {
  /** look: an async function that reads and shows everything. changed: called when `mode` is another. */
  constructor(look, changed) {
    this.mode = "connecting";
    this.looking = false;
    this.due = Infinity;
    this.timer = null;
    this.last = 0;
    this.took = 0;
    this.heardAt = -Infinity;
    this.look = look;
    this.changed = changed;
    this.stream = null;
    document.addEventListener("visibilitychange", () => document.hidden || this.soon(0));
  }

  start() {
    this.stop();
    this.running = true;
    this.soon(0);
    this.listen();
  }

  stop() {
    this.running = false;
    this.stream?.abort();
    clearTimeout(this.timer);
    clearTimeout(this.retry);
    this.due = Infinity;
  }

  /** Look in at most `ms`. */
  soon(ms) {
    const at = performance.now() + ms;
    if (!this.running || at >= this.due) return;
    this.due = at;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.turn(), ms);
  }

  async turn() {
    this.due = Infinity;
    if (this.looking) return this.soon(SOON_MS);
    this.looking = true;
    const began = performance.now();
    await this.look();
    this.last = performance.now();
    this.took = this.last - began;
    this.looking = false;
    // A server with much to tell is not asked more than a fifth of the time.
    // While things happen, and until rates over the last ten seconds have come to rest, a look a second.
    const quiet = this.mode === "events" && this.last - this.heardAt > RATES_MS;
    const rest = document.hidden || quiet ? IDLE_MS : POLL_MS;
    this.soon(Math.max(rest, this.took * 4));
    return undefined;
  }

  heard() {
    this.heardAt = performance.now();
    if (document.hidden) return;
    const wait = Math.max(SOON_MS, this.took * 4) - (performance.now() - this.last);
    this.soon(Math.max(0, wait));
  }

  to(mode) {
    if (this.mode === mode) return;
    this.mode = mode;
    this.changed(mode);
  }

  async listen() {
    if (!may("read")) return;
    const stream = (this.stream = new AbortController());
    let again = AGAIN_MS;
    try {
      const answer = await fetch(address("events"), {
        headers: { ...headers(), Accept: "text/event-stream" },
        cache: "no-store",
        signal: stream.signal,
      });
      if (!answer.ok || !answer.headers.get("Content-Type")?.startsWith("text/event-stream")) {
        stream.abort();
        if (answer.status === 404) again = 20 * AGAIN_MS;
      } else {
        this.to("events");
        // What happened before the stream began.
        this.heard();
        if (await this.read(answer.body.getReader(), stream)) again = AGAIN_MS;
        else again = 1000;
      }
    } catch {
      // It ended, or was never there: the timer below tries again, and until then there is looking each second.
    }
    if (stream !== this.stream || !this.running) return;
    this.to("polling");
    this.soon(POLL_MS);
    this.retry = setTimeout(() => this.listen(), again);
  }

  /** Read events until the stream ends (false) or there are too many (true). */
  async read(reader, stream) {
    const decoder = new TextDecoder();
    let rest = "";
    let second = 0;
    let heard = 0;
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return false;
      const blocks = (rest + decoder.decode(value, { stream: true })).split(/\r?\n\r?\n/);
      rest = blocks.pop();
      const events = blocks.filter((block) => /^data:/m.test(block)).length;
      if (events === 0) continue;
      const now = Math.floor(performance.now() / 1000);
      heard = now === second ? heard + events : events;
      second = now;
      if (heard > FLOOD) {
        stream.abort();
        return true;
      }
      this.heard();
    }
  }
}
