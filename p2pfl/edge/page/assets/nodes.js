// What is told of one node: the columns of the table, the facts of its details.

import * as words from "./words.js";

const total = (reasons) => Object.values(reasons ?? {}).reduce((sum, times) => sum + times, 0);

// Reasons for which this node refused something; all others are faults, where nobody refused.
const REFUSALS = [
  ...["version", "run", "layout", "shape", "incarnation", "stale-seq", "rate", "self"],
  ...["recipient", "identity", "denied", "suspended", "distance", "clip", "norm", "proof"],
  "equivocation",
];

function only(reasons, wanted) {
  return Object.fromEntries(Object.entries(reasons ?? {}).filter(([reason]) => wanted(reason)));
}

// What is held against a node, and what it holds back itself.
export function remarks(node) {
  const parts = node.denied ? ["denied by this node's owner"] : [];
  if (total(node.suspended)) parts.push(`suspended: ${words.counts(node.suspended)}`);
  const is_refusal = (reason) => REFUSALS.includes(reason);
  const counted = [
    ["refused", only(node.refusals, is_refusal)],
    ["faults", only(node.refusals, (reason) => !is_refusal(reason))],
  ].filter(([, times]) => total(times));
  const told = counted.map(([word, times]) => `${word}: ${words.counts(times)}`).join("; ");
  // nobody tells when they were
  if (told) parts.push(`${told} (counted since this node's start)`);
  if (node.holding) parts.push(`holds back: ${node.holding}`);
  return parts.join("; ");
}

// the heavier, the more is held against it
const weight = ({ refusals, suspended, denied, holding }) =>
  total(refusals) + 1e6 * total(suspended) + (denied ? 1e9 : 0) + (holding ? 0.5 : 0);

const plain = (title, meaning, key, write) => [title, meaning, (n) => n[key], (n) => write(n[key])];

function told(node, swarm) {
  const ago = swarm.toldAgo(node) ?? null;
  return ago === null ? "never" : words.ago(ago);
}

// title, meaning, value to sort by (what is null stands last), text
export const COLUMNS = [
  ["Node", "by name", (n, s) => s.nameOf(n.node).toLowerCase(), (n, s) => s.nameOf(n.node)],
  ["State", "", (n) => Object.keys(words.STATES).indexOf(words.stateOf(n)), words.stateOf],
  plain("Accuracy", "share of right answers on its own test data", "accuracy", words.accuracy),
  plain("Loss", "of its last cycle", "loss", words.figure),
  plain("Age", "local steps in the longest lineage of its model", "age", words.count),
  plain("Own steps", "local steps that it took itself", "own_steps", words.count),
  plain("Cycles", "since it started", "cycles", words.count),
  plain("Cycle time", "how long one of its cycles takes", "cycle_s", words.span),
  plain("Staleness", "of what it mixes, on average, in cycles", "staleness", words.figure),
  plain("Distance", "from those it mixes with, on average", "distance", words.figure),
  plain("Received", "bytes since it started", "bytes_in", words.volume),
  plain("Sent", "bytes since it started", "bytes_out", words.volume),
  [
    "Heard",
    "when this node last heard of it",
    (n) => (n.is_self ? null : n.heard_ago_s),
    (n, s) => (n.is_self ? words.NONE : words.ago(s.since(n.heard_ago_s))),
  ],
  ["Told", "how old these figures are", (n, s) => s.toldAgo(n), told],
  ["Remarks", "refusals and faults with their reasons; what it holds back", (n) => weight(n) || null, remarks],
];
