// The colours of page.css, for what is drawn by hand, and the scale of accuracy.

const STEPS = 6;
const NAMES = ["ink", "soft", "edge", "grid", "accent", "bad", "good", "warn"];
NAMES.push("mean", "worst", "node", "link", "bar");

let kept = null;
addEventListener("theme", () => (kept = null));

export function palette() {
  if (kept) return kept;
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  kept = Object.fromEntries(NAMES.map((name) => [name, colour(name)]));
  kept.scale = Array.from({ length: STEPS }, (_, at) => colour(`scale-${at}`)).map(parts);
  return kept;
}

const parts = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

// Accuracy from `low` to 1, as a colour; null where it is not known.
export function ofAccuracy(accuracy, low) {
  if (accuracy === null || !Number.isFinite(accuracy)) return null;
  const scale = palette().scale;
  const place = Math.min(Math.max((accuracy - low) / (1 - low), 0), 1) * (STEPS - 1);
  const at = Math.min(Math.floor(place), STEPS - 2);
  const mixed = scale[at].map((from, i) => from + (scale[at + 1][i] - from) * (place - at));
  return `rgb(${mixed.map(Math.round).join(" ")})`;
}

const LOWS = [0.9, 0.8, 0.5, 0];

// Where the scale begins: as high as most nodes allow, so that trained nodes differ from each
// other, too. One laggard does not stretch it; going down needs more than going up (`before`),
// so that it does not flicker.
export function lowOf(accuracies, before = 0) {
  const known = accuracies.filter((x) => x !== null && Number.isFinite(x)).sort((a, b) => a - b);
  if (!known.length) return before;
  const most = known[Math.floor(known.length / 10)];
  return LOWS.find((low) => most >= low + (low > before ? 0.02 : 0)) ?? 0;
}
