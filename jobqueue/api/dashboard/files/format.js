// How numbers, times and JSON are written.

const whole = new Intl.NumberFormat("en");

/** 12,345 */
export const count = (number) => whole.format(number);

/** Jobs a second; one decimal so that columns line up, none from 100 on. null: not known yet. */
export function rate(number) {
  if (number === null || number === undefined) return "–";
  return number < 99.95 ? number.toFixed(1) : whole.format(Math.round(number));
}

/** A duration in seconds, at most two units: 0.25 s, 12 s, 3 min 4 s, 2 h 5 min, 4 d 1 h. */
export function span(seconds) {
  if (seconds === null || seconds === undefined || Number.isNaN(seconds)) return "–";
  if (seconds < 0) seconds = 0;
  if (seconds < 0.9995) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 9.95 && !Number.isInteger(seconds)) return `${seconds.toFixed(1)} s`;
  const total = Math.round(seconds);
  if (total < 60) return `${total} s`;
  if (total < 3600) return two(Math.floor(total / 60), "min", total % 60, "s");
  if (total < 86400) return two(Math.floor(total / 3600), "h", Math.floor((total % 3600) / 60), "min");
  return two(Math.floor(total / 86400), "d", Math.floor((total % 86400) / 3600), "h");
}

const two = (large, unit, small, smaller) => (small === 0 ? `${large} ${unit}` : `${large} ${unit} ${small} ${smaller}`);

/** The same with one unit and whole numbers, for columns that are read at a glance. */
export function age(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const total = Math.max(0, Math.floor(seconds));
  if (total < 60) return `${total} s`;
  if (total < 3600) return `${Math.floor(total / 60)} min`;
  if (total < 86400) return `${Math.floor(total / 3600)} h`;
  return `${Math.floor(total / 86400)} d`;
}

let ahead = 0;

/** Note what the server's clock says, from a Date header. A second or two of difference is how coarse that header is. */
export function noteDate(header) {
  const off = header === null ? 0 : Date.parse(header) - Date.now();
  ahead = Math.abs(off) < 2000 ? 0 : off;
}

/** The server's time, in ms since the epoch. */
export const now = () => Date.now() + ahead;

/** Seconds since a stamp of the server; null for null. */
export const since = (stamp) => (stamp === null ? null : (now() - Date.parse(stamp)) / 1000);

const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });

/** 14:03:22, with the day in front if that is not today. */
export function time(stamp) {
  const at = new Date(stamp);
  const today = day.format(new Date(now())) === day.format(at);
  return today ? clock.format(at) : `${day.format(at)}, ${clock.format(at)}`;
}

// JSON is shown as it was sent, only with line ends added: a parser would round large numbers and drop repeated keys.

/** The JSON texts of an object's fields by name, as they stand in `text`, which must be valid JSON. */
export function fields(text) {
  const found = new Map();
  let at = skip(text, text.indexOf("{") + 1);
  while (text[at] === '"') {
    const end = stringEnd(text, at);
    const name = JSON.parse(text.slice(at, end));
    const begins = skip(text, skip(text, end) + 1);
    const ends = valueEnd(text, begins);
    found.set(name, text.slice(begins, ends));
    at = skip(text, ends);
    if (text[at] === ",") at = skip(text, at + 1);
  }
  return found;
}

function skip(text, at) {
  while (" \n\r\t".includes(text[at] ?? "x")) at++;
  return at;
}

function stringEnd(text, at) {
  for (at++; text[at] !== '"'; at++) if (text[at] === "\\") at++;
  return at + 1;
}

function valueEnd(text, at) {
  let depth = 0;
  for (; at < text.length; at++) {
    const letter = text[at];
    if (letter === '"') at = stringEnd(text, at) - 1;
    else if (letter === "{" || letter === "[") depth++;
    else if (letter === "}" || letter === "]") {
      if (depth === 0) return at;
      depth--;
    } else if (letter === "," && depth === 0) return at;
  }
  return at;
}

/** A JSON text with two spaces a level. */
export function pretty(text) {
  const out = [];
  let indent = "\n";
  for (let at = skip(text, 0); at < text.length; at = skip(text, at)) {
    const letter = text[at];
    if (letter === "{" || letter === "[") {
      const next = skip(text, at + 1);
      if (text[next] === "}" || text[next] === "]") {
        out.push(letter, text[next]);
        at = next + 1;
        continue;
      }
      indent += "  ";
      out.push(letter, indent);
      at++;
    } else if (letter === "}" || letter === "]") {
      indent = indent.slice(0, -2);
      out.push(indent, letter);
      at++;
    } else if (letter === ",") {
      out.push(",", indent);
      at++;
    } else if (letter === ":") {
      out.push(": ");
      at++;
    } else {
      const end = letter === '"' ? stringEnd(text, at) : scalarEnd(text, at);
      out.push(text.slice(at, end));
      at = end;
    }
  }
  return out.join("");
}

function scalarEnd(text, at) {
  while (at < text.length && !" \n\r\t,:]}".includes(text[at])) at++;
  return at;
}

/** Anything that was JSON in one line, cut to `letters`. */
export function brief(value, letters = 160) {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  const line = text.replace(/\s+/g, " ");
  return line.length > letters ? `${line.slice(0, letters)}…` : line;
}

/** An error in one line: type and message, where it has both, as those of the client's worker do. */
export function fault(error, letters) {
  const named = error !== null && typeof error === "object" && typeof error.type === "string" && typeof error.message === "string";
  return brief(named ? `${error.type}: ${error.message}` : error, letters);
}

/** A shell's word. */
export const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
