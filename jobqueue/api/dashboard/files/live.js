// When to look again: the server's events say so; where there are none, each second. While nothing happens it is seldom, or never.
//
// An event is only a reason to look: what is shown is always read from the API. So nothing depends on every event being seen.

import { address, headers, may } from "./api.js";

const BETWEEN_MS = 800;
/** Between two looks that events asked for. The first one after a rest is at once. */

const POLL_MS = 1000;
/** Between two looks where there are no events, and while the server is not reached. */

const OPENING_MS = 500;
/** How long the first look waits for the events, so that it need not be made again once they are there. */

const FLOOD = 400;
/** Events a second from which on looking each second is cheaper for both sides. */

const AGAIN_MS = 15_000;

export class Live {
  /**
   * look: an async function that reads and shows everything, and answers after how many ms to look again though no event was heard:
   * Infinity for never. minds: whether events, as texts, are a reason to look; null are events that were missed. changed: called when
   * `mode` is another.
   */
  constructor(look, minds, changed) {
    this.mode = "connecting";
    this.looking = false;
    this.due = Infinity;
    this.timer = null;
    this.last = 0;
    this.took = 0;
    this.look = look;
    this.minds = minds;
    this.opened = false;
    this.changed = changed;
    this.stream = null;
    document.addEventListener("visibilitychange", () => document.hidden || this.soon(0));
  }

  start() {
    this.stop();
    this.running = true;
    this.opened = false;
    this.soon(may("read") ? OPENING_MS : 0);
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
    if (this.looking) return this.soon(BETWEEN_MS / 4);
    this.looking = true;
    const began = performance.now();
    const rest = await this.look();
    this.last = performance.now();
    this.took = this.last - began;
    this.looking = false;
    // A server with much to tell is not asked more than a fifth of the time.
    const next = Math.max(rest === Infinity || this.mode === "events" ? rest : POLL_MS, this.took * 4);
    if (next !== Infinity) this.soon(next);
    return undefined;
  }

  /** events: their texts, null for those that were missed. */
  heard(events) {
    if (!this.minds(events) || document.hidden) return;
    this.soon(Math.max(0, Math.max(BETWEEN_MS, this.took * 4) - (performance.now() - this.last)));
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
        // What happened before the stream began. The first look is still to come, or was only just made.
        if (this.opened) this.heard(null);
        else this.soon(0);
        this.opened = true;
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
      const events = blocks.filter((block) => /^data:/m.test(block));
      if (events.length === 0) continue;
      const now = Math.floor(performance.now() / 1000);
      heard = now === second ? heard + events.length : events.length;
      second = now;
      if (heard > FLOOD) {
        stream.abort();
        return true;
      }
      this.heard(events);
    }
  }
}
