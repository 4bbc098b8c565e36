// The sign-in that all tabs of this browser share: half of it is here, the other half is a cookie that no script can read. Only both
// together are the token.

const ROOT = new URL("../", import.meta.url);
const PLACE = new URL("session", ROOT);

/** Servers behind prefixes of one origin each have their own. */
const KEPT = `jobqueue-session ${ROOT.pathname}`;

/** What is sent with every request, null where nobody is signed in. */
export const kept = () => localStorage.getItem(KEPT);

/** The headers of every request. */
export function headers() {
  const half = kept();
  return half === null ? {} : { "Jobqueue-Session": half };
}

/** The answer to signing in with a token; every tab is signed in once it is 200. */
export async function enter(token, init) {
  const answer = await fetch(PLACE, { ...init, method: "POST", cache: "no-store", headers: { ...headers(), Authorization: `Bearer ${token}` } });
  const text = await answer.text();
  if (answer.ok) localStorage.setItem(KEPT, JSON.parse(text).session);
  return [answer, text];
}

/** Drop what is kept here, unless it is another half by now: another tab may have signed in anew. Without it the cookie is worth nothing. */
export const forget = (half) => kept() === half && localStorage.removeItem(KEPT);

/** Sign every tab out. */
export function leave() {
  const sent = headers();
  localStorage.removeItem(KEPT);
  // Whether it arrives or not, nobody can sign in with what is left.
  fetch(PLACE, { method: "DELETE", cache: "no-store", headers: sent, keepalive: true }).catch(() => {});
}

/** Call this when somebody signed in or out in another tab. */
export const watch = (changed) => window.addEventListener("storage", (event) => event.storageArea === localStorage && (event.key === KEPT || event.key === null) && changed());
