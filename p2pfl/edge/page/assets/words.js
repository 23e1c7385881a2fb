// How figures are written, everywhere on the page. What is not known is a dash, never a zero.

export const NONE = "–";

const is_known = (x) => typeof x === "number" && Number.isFinite(x);
const written = (write) => (x) => (is_known(x) ? write(x) : NONE);

export const accuracy = written((x) => x.toFixed(3));
export const count = written((x) => Math.round(x).toLocaleString("en-GB"));

export const percent = written((x) => `${(x * 100).toFixed(x < 0.1 ? 1 : 0)} %`);

// three significant digits
export const figure = written((x) => {
  const size = Math.abs(x);
  if (size !== 0 && (size >= 1e5 || size < 1e-3)) return x.toExponential(2);
  if (size >= 100) return Math.round(x).toLocaleString("en-GB");
  return String(Number(x.toPrecision(3)));
});

export const volume = written((x) => {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  for (; x >= 999.5 && at < units.length - 1; at += 1) x /= 1000;
  return `${at === 0 ? Math.round(x) : x.toPrecision(3)} ${units[at]}`;
});

export const rate = written((x) => `${volume(x)}/s`);

export const span = written((s) => {
  if (s > 0 && s < 0.9995) return s < 0.0995 ? `${figure(s * 1000)} ms` : `${s.toFixed(2)} s`;
  if (s < 9.95 && s % 1) return `${s.toFixed(1)} s`;
  if (s < 90) return `${Math.round(s)} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  if (s < 129600) return `${Math.round(s / 3600)} h`;
  return `${Math.round(s / 86400)} d`;
});

export const ago = written((s) => (s < 1 ? "now" : `${span(Math.floor(s))} ago`));

export function clock(unix) {
  return is_known(unix) ? new Date(unix * 1000).toLocaleTimeString("en-GB") : NONE;
}

export function counts(reasons) {
  return Object.entries(reasons ?? {})
    .sort((a, b) => b[1] - a[1])
    .map(([reason, times]) => (times > 1 ? `${reason} ×${times}` : reason))
    .join(", ");
}

export function short(text, most = 24) {
  const signs = [...text];
  return signs.length > most ? `${signs.slice(0, most - 1).join("")}…` : text;
}

export const plural = (n, word) => `${count(n)} ${word}${n === 1 ? "" : "s"}`;

export const HEARD_OF = "only heard of";

// What a state means, and the shape that stands for it.
export const STATES = {
  training: ["trains and mixes", "circle"],
  alone: ["trains, and has nobody to mix with", "ring"],
  starting: ["has not finished its first cycle", "diamond"],
  holding: ["rests on purpose, and says why", "square"],
  leaving: ["is saying goodbye", "down"],
  suspect: ["is silent: others are asked about it", "up"],
  left: ["said goodbye, and is gone", "bar"],
  dead: ["is silent for good, without a goodbye", "cross"],
  unknown: ["never told of itself", "dot"],
  [HEARD_OF]: ["never spoke to this node: it may be made up", "speck"],
};

export const stateOf = (node) => (Object.hasOwn(STATES, node.state) ? node.state : "unknown");

// Whether it ever spoke to this node; whoever did not may be made up.
export const isMet = (node) => stateOf(node) !== HEARD_OF;
