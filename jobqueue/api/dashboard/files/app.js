// The page: which view is shown, who is signed in, when to look at the server again.

import { Refused, forgetQueues, may, queues, readiness, signIn, signOut, who } from "./api.js";
import { Enqueue } from "./enqueue.js";
import { Failures } from "./health.js";
import { Job } from "./job.js";
import { Live } from "./live.js";
import { Overview } from "./overview.js";
import { button, field, jobLink } from "./parts.js";
import { Queue } from "./queue.js";
import { Samples } from "./samples.js";
import { Group, Groups } from "./groups.js";
import { Schedule, Schedules } from "./schedules.js";
import { Server } from "./server.js";
import { Servers } from "./servers.js";
import { kept, watch } from "./session.js";
import { h, render } from "./view.js";
import { Workers } from "./workers.js";

const top = document.getElementById("top");
const main = document.getElementById("main");
const READY_MS = 10_000;
const REST_MS = 10_000;
/** Between two looks while nothing happens. Events tell of all but who waits, who works, and how other servers are. */

const PEOPLE_MS = 5000;
/** The same where workers are shown, or other servers. */

const AGAIN_MS = 1000;
/** Between two looks while the server is not reached, or more is to be read. */

const EACH_MS = 0.5;
/** Of a list of queues, for each: whoever looks on at ten thousand makes the server go over them every five seconds. */

const context = { queues: [], samples: new Samples(), failures: new Failures(), servers: new Servers(), redraw: draw, again };
const live = new Live(look, minds, () => drawTop());
const page = { view: null, loaded: false, wrong: null, ready: null, readyAt: -Infinity, listAgainAt: -Infinity, listedAt: -Infinity, arrived: false, signing: { wrong: null, busy: false } };

function viewAt(hash) {
  const [path, query] = hash.replace(/^#\/?/, "").split("?");
  const [kind, name] = path.split("/");
  try {
    if (kind === "queues" && name) return new Queue(context, decodeURIComponent(name), new URLSearchParams(query));
    if (kind === "schedules" && name) return new Schedule(context, decodeURIComponent(name));
    if (kind === "groups" && name) return new Group(context, decodeURIComponent(name));
    if (kind === "jobs" && name) return new Job(context, decodeURIComponent(name));
  } catch {
    // An address that somebody made up.
    return new Overview(context);
  }
  if (kind === "schedules") return new Schedules(context);
  if (kind === "groups") return new Groups(context);
  if (kind === "workers") return new Workers(context);
  if (kind === "server") return new Server(context);
  if (kind === "enqueue") return new Enqueue(context);
  return new Overview(context);
}

function go() {
  // A link into the page itself, as the one that skips what is above it.
  if (location.hash === "#main") return;
  const first = page.view === null;
  page.view = viewAt(location.hash);
  document.title = `${page.view.title} · jobqueue`;
  page.arrived = !first;
  if (!first) window.scrollTo(0, 0);
  draw();
  live.soon(0);
}

/** Look again, also at what would not change any more. */
function again() {
  page.view.over = false;
  live.soon(0);
}

/** Whether events are a reason to look: those of other jobs are none where a job is shown that has ended. */
function minds(events) {
  if (page.view.over && events !== null && !events.some((event) => page.view.isIn(event))) return false;
  page.view.over = false;
  return true;
}

/** Look at everything that is shown; after how many ms to look again if nothing happens. */
async function look() {
  const { view } = page;
  let rest = REST_MS;
  try {
    if (may("read") && view.over) return Infinity;
    if (performance.now() - page.readyAt > READY_MS) {
      page.readyAt = performance.now();
      page.ready = await readiness();
    }
    if (may("read")) {
      await context.servers.look();
      // Only an owner can tell of queues and jobs.
      if (context.servers.unavailable !== null) throw new Refused(503, { detail: context.servers.unavailable });
      if (performance.now() >= page.listAgainAt) {
        context.queues = await queues();
        page.listAgainAt = performance.now() + (context.queues.length > 1000 ? context.queues.length * EACH_MS : 0);
        page.listedAt = performance.now();
        context.samples.add(context.queues);
        await context.failures.look(context.queues);
      }
      await view.look();
      page.loaded = true;
      if (context.servers.cluster !== null || view instanceof Workers) rest = PEOPLE_MS;
      else if (view.over && view === page.view) rest = Infinity;
    }
    page.wrong = null;
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    rest = AGAIN_MS;
    if (error.status === 401) elsewhere();
    else page.wrong = error.message;
  }
  draw();
  return rest;
}

function draw() {
  drawTop();
  drawMain();
  const heading = page.arrived ? main.querySelector("h1") : null;
  if (heading !== null) {
    // A reader of the screen is told where it is now.
    page.arrived = false;
    heading.focus({ preventScroll: true });
  }
}

function drawMain() {
  if (who.needed) return render(main, signing());
  if (!may("read") && who.known && !(page.view instanceof Enqueue)) return render(main, h("h1", { tabindex: "-1" }, "Signed in"), h("p", { class: "none" }, "Your token does not have the scope read, so there is nothing to show. ", may("enqueue") ? h("a", { href: "#/enqueue" }, "Enqueue a job") : null));
  // Nothing is drawn before there is something: an empty table would say that there are no queues.
  if (!page.loaded && page.wrong === null && may("read")) return undefined;
  if (!page.loaded && page.wrong !== null) return render(main, h("h1", { class: "unseen", tabindex: "-1" }, "jobqueue"), h("div", { class: "view" }, context.servers.banner() ?? h("p", { class: "none bad" }, page.wrong), context.servers.panel()));
  return render(main, h("div", { key: location.hash, class: "view" }, page.view.draw()));
}

function drawTop() {
  const at = (kind) => (page.view instanceof kind ? "page" : null);
  const find = (event) => {
    event.preventDefault();
    const id = event.target.elements.id.value.trim();
    if (id !== "") location.hash = jobLink(id);
    event.target.reset();
  };
  render(
    top,
    h("a", { class: "brand", href: "#/" }, "jobqueue"),
    who.needed
      ? null
      : h("nav", { "aria-label": "Views" }, h("a", { href: "#/", "aria-current": at(Overview) }, "Overview"), h("a", { href: "#/workers", "aria-current": at(Workers) }, "Workers"), h("a", { href: "#/schedules", "aria-current": at(Schedules) }, "Schedules"), h("a", { href: "#/groups", "aria-current": at(Groups) }, "Groups"), context.servers.told ? h("a", { href: "#/server", "aria-current": at(Server) }, "Server") : null, may("enqueue") ? h("a", { href: "#/enqueue", "aria-current": at(Enqueue) }, "Enqueue") : null, h("a", { href: "docs" }, "API")),
    h("span", { class: "grow" }),
    who.needed || !may("read")
      ? null
      : h("form", { role: "search", class: "find", onsubmit: find }, h("label", { class: "unseen", for: "find" }, "Go to the job with this id"), h("input", { id: "find", name: "id", type: "search", placeholder: "Job id", autocomplete: "off", spellcheck: "false" })),
    lights(),
    who.name === null ? null : h("span", { class: "who", title: `scopes: ${[...who.scopes].join(", ")}; queues: ${who.queues.join(", ")}` }, who.name),
    who.name === null ? null : button("Sign out", leave, { kind: "small" }),
  );
}

/** How fresh the numbers are, and whether the server takes new work. */
function lights() {
  const fresh = page.wrong !== null ? ["bad", context.servers.unavailable === null ? "Not reached" : page.loaded ? "Old numbers" : "No numbers"] : { events: ["ok", "Live"], polling: ["ok", "Every second"], connecting: ["idle", "Connecting"] }[live.mode];
  const { ready } = page;
  const health = ready === null ? ["idle", "…"] : ready.ready ? ["ok", "Ready"] : ["bad", ready.said];
  // What does not fit is cut; its title has all of it.
  const light = ([level, word], title) => h("span", { class: `light ${level}`, title }, h("span", { class: "mark", "aria-hidden": "true" }), h("span", { class: "word" }, word));
  return h("span", { class: "lights" }, who.needed ? null : light(fresh, page.wrong ?? "How the page gets updates"), light(health, ready === null || ready.ready ? "Whether the server accepts new work: GET /readyz" : ready.said));
}

function signing() {
  const { signing } = page;
  return h(
    "form",
    { class: "form panel sign", onsubmit: enter },
    h("h1", { tabindex: "-1" }, "Sign in"),
    // For programs that keep passwords.
    h("input", { type: "text", autocomplete: "username", value: "jobqueue", hidden: true }),
    field("token", "Token", h("input", { type: "password", autocomplete: "current-password", required: true }), { hint: "One of the server’s tokens. All tabs of this browser are signed in, until you sign out or close the browser.", wrong: signing.wrong }),
    h("div", { class: "actions" }, h("button", { class: "button primary", type: "submit", disabled: signing.busy }, "Sign in")),
  );
}

async function enter(event) {
  event.preventDefault();
  const input = document.getElementById("field-token");
  Object.assign(page.signing, { busy: true, wrong: null });
  try {
    await signIn(input.value);
    input.value = "";
    draw();
    live.start();
  } catch (error) {
    page.signing.wrong = error.status === 401 ? "The server does not know this token." : error.message;
  }
  page.signing.busy = false;
  draw();
  (page.signing.wrong === null ? main : document.getElementById("field-token")).focus();
}

/** Show nothing of whoever was signed in. */
function away(how) {
  signOut(how);
  clear();
}

function clear() {
  live.stop();
  forgetQueues();
  context.samples.forget();
  Object.assign(page, { loaded: false, wrong: null });
  Object.assign(context, { queues: [], failures: new Failures(), servers: new Servers() });
  page.view = viewAt(location.hash);
}

function leave() {
  away();
  draw();
  document.getElementById("field-token").focus();
}

/** Somebody signed in or out in another tab, or the server does not know this sign-in any more. */
function elsewhere() {
  if (kept() === null) {
    if (who.name === null) return;
    away({ ended: true });
    draw();
    return;
  }
  clear();
  begin();
}

/** Learn who is signed in; a server that cannot be reached is asked again. */
async function begin() {
  try {
    await signIn();
    if (who.needed) page.ready = await readiness();
    else live.start();
  } catch (error) {
    page.wrong = error.status === 401 ? null : error.message;
    if (error.status !== 401) setTimeout(begin, 1000);
  }
  draw();
  if (who.needed) document.getElementById("field-token").focus();
}

window.addEventListener("hashchange", go);
watch(elsewhere);
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input:not([type=checkbox]), textarea, select")) return;
  if (!document.getElementById("dialog").open) page.view?.pressed?.(event);
  // As in many programs, / leads to the search.
  if (event.key !== "/") return;
  const place = document.getElementById("wanted") ?? document.getElementById("find");
  if (place === null || document.getElementById("dialog").open) return;
  event.preventDefault();
  place.focus();
});
// Ages grow while nothing else changes, and rates fall: that no event came says that nothing happened.
setInterval(() => {
  if (document.hidden || page.view === null || !page.loaded) return;
  if (live.mode === "events" && page.wrong === null && performance.now() - page.listedAt > AGAIN_MS) context.samples.add(context.queues);
  draw();
}, 1000);
page.view = viewAt(location.hash);
document.title = `${page.view.title} · jobqueue`;
begin();
