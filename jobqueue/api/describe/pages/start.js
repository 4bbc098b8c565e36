// The API's reference: Swagger UI, with the dashboard's sign-in, the browser's light or dark mode, and the dialects apart.
// Addresses are relative to the page, so that it works behind a proxy that puts a prefix before everything.

import { forget, headers, kept, leave, watch } from "../dashboard/session.js";

const meta = (name) => document.querySelector(`meta[name=jobqueue-${name}]`).content;
const element = (id) => document.getElementById(id);
const ASKED_FOR = meta("token") === "needed";

// Light or dark, as the browser is now.
const dark = matchMedia("(prefers-color-scheme: dark)");
const paint = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", paint);
paint();

// Who is signed in. Signing in is the dashboard's: both pages have one sign-in.
function show(name) {
  element("who").textContent = name ?? "";
  element("enter").hidden = name !== null || !ASKED_FOR;
  element("leave").hidden = name === null;
}

async function ask() {
  const half = kept();
  if (!ASKED_FOR || half === null) return show(null);
  try {
    const answer = await fetch(`${meta("native")}token`, { headers: headers(), cache: "no-store" });
    if (answer.status === 401) forget(half);
    return show(answer.ok ? (await answer.json()).name : null);
  } catch {
    // The server cannot be reached; the next look or the next request says so.
    return show(null);
  }
}

element("leave").addEventListener("click", () => {
  leave();
  show(null);
  element("enter").focus();
});
watch(ask);
ask();

// What is tried out is asked as whoever is signed in, unless another token was given under Authorize.
function signed(request) {
  const given = Object.keys(request.headers ?? {}).some((name) => name.toLowerCase() === "authorization");
  if (!given && !request.loadSpec) request.headers = { ...request.headers, ...headers() };
  return request;
}

/** Operations by tag; those of dialects, which stand last, under a heading of their own and folded. */
const dialect = (tag) => tag.startsWith("dialect: ");
const apart = () => ({
  wrapComponents: {
    OperationTag: (Original, { React }) => (props) => {
      const shown = React.createElement(Original, props);
      if (!props.tag.startsWith("dialect: ") || props.tag !== first) return shown;
      return React.createElement(React.Fragment, null, React.createElement("h2", { className: "apart" }, "Dialects"), React.createElement("p", { className: "apart" }, "The same queues by the APIs of other systems, for clients that are written for those."), shown);
    },
  },
});

/** Names for what Swagger UI leaves without one, and a way to scroll by keys. */
function named() {
  for (const select of document.querySelectorAll("#reference select:not([aria-label])")) {
    const kind = select.id === "servers" ? "Server" : select.classList.contains("examples-select-element") ? "Example" : select.closest(".parameters") ? "Value" : "Content type";
    select.setAttribute("aria-label", kind);
  }
  for (const text of document.querySelectorAll("#reference pre:not([tabindex])")) text.tabIndex = 0;
}
new MutationObserver(named).observe(element("reference"), { childList: true, subtree: true });

const found = await fetch("openapi.json", { cache: "no-store" });
const spec = await found.json();
const first = spec.tags.map(({ name }) => name).find(dialect);
// The folder of the page, which a proxy may have moved.
spec.servers = [{ url: new URL(".", document.baseURI).href, description: "This server" }];

const reference = SwaggerUIBundle({
  spec,
  dom_id: "#reference",
  deepLinking: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  plugins: [apart],
  requestInterceptor: signed,
  // A command line shows no half of a session.
  showMutatedRequest: false,
  // Would send the document to a server elsewhere.
  validatorUrl: null,
  onComplete: () => spec.tags.forEach(({ name }) => dialect(name) && reference.layoutActions.show(["operations-tag", name], location.hash.startsWith(`#/${encodeURIComponent(name)}`))),
});
