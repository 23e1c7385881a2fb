// Where the marks of an axis stand, and how they are written.

import { figure } from "./words.js";

const SECONDS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 43200];
const DAY_S = 86400;

// [value, text] of round values within [low, high], about `most` of them
export function ticks(low, high, most) {
  const rough = (high - low) / most || 1;
  const ten = 10 ** Math.floor(Math.log10(rough));
  const step = ten * [1, 2, 5, 10].find((m) => ten * m >= rough * 0.999);
  const first = Math.ceil(low / step - 1e-9);
  const count = Math.max(Math.floor(high / step + 1e-9) - first + 1, 0);
  const values = Array.from({ length: count }, (_, at) => (first + at) * step);
  return values.map((value) => [value, figure(Number(value.toPrecision(12)))]);
}

// the same of times of the day, by this browser's zone
export function timeTicks(low, high, most) {
  const step = SECONDS.find((s) => (high - low) / s <= most) ?? DAY_S;
  const shift = new Date(low * 1000).getTimezoneOffset() * 60; // midnight here, not at Greenwich
  const form = { hour: "2-digit", minute: "2-digit" };
  if (step < 60) form.second = "2-digit";
  if (step === DAY_S) Object.assign(form, { day: "numeric", month: "short" });
  const found = [];
  for (let at = Math.ceil((low - shift) / step) * step + shift; at <= high; at += step) {
    found.push([at, new Date(at * 1000).toLocaleTimeString("en-GB", form)]);
  }
  return found;
}
