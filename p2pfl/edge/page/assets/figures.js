// Which figure shows what of the swarm: from what is known to what `Plot` draws.

import { Plot } from "./charts.js";
import { palette } from "./colours.js";
import { byId } from "./dom.js";
import * as words from "./words.js";

const SHORTEST_S = 30;
const DASH = [6, 3];
// the rows of the timeline: name, colour, kinds; the first takes what is of no other
const ROWS = [
  ["other", "soft", []],
  ["refusals", "accent", ["refused", "suspended", "denied"]],
  ["deaths", "bad", ["suspect", "dead"]],
  ["leaves", "soft", ["left"]],
  ["restarts", "warn", ["restarted", "rescued"]],
  ["joins", "good", ["joined", "started", "back"]],
];
const UNITS = [[1e6, "MB/s"], [1e3, "kB/s"], [1, "B/s"]];
const NO_ESTIMATE = "No estimate yet: it needs a few exchanges with others.";
const NO_ACCURACY =
  "No accuracy yet: nodes measure it after their first cycles, if their task has test data.";

const is_known = (x) => typeof x === "number" && Number.isFinite(x);

// what a curve of [time, ...] said last at a time
const at = (points, time) => points.findLast(([x]) => x <= time) ?? [];

// all known values of some columns of a curve since a time
function values(points, begin, columns) {
  const late = points.filter(([x]) => x >= begin);
  return late.flatMap((point) => columns.map((column) => point[column])).filter(is_known);
}

const most = (numbers, least) => numbers.reduce((a, b) => Math.max(a, b), least);

export class Figures {
  constructor(swarm) {
    this.swarm = swarm;
    this.window_s = Infinity;
    const names = ["accuracy", "distance", "traffic", "events", "staleness", "histogram"];
    this.plots = names.map((name) => [name, new Plot(byId(`figure-${name}`))]);
  }

  update() {
    if (!this.swarm.view) return;
    for (const [name, plot] of this.plots) plot.draw(this[name]());
  }

  // another node is pointed at: its curve stands out
  follow() {
    if (this.swarm.view) this.plots[0][1].draw(this.accuracy());
  }

  // what all figures over time have in common; `first` is the time of the oldest point
  timed(first, stops, { says, ...more }) {
    const now = this.swarm.now();
    const begin = Math.max(Math.min(first ?? now, now - SHORTEST_S), now - this.window_s);
    const times = this.swarm.restarts;
    const clocks = times.map(words.clock).join(", ");
    const again = times.length ? ` This node restarted at ${clocks}.` : "";
    return {
      x: [begin, now],
      is_time: true,
      unit_x: "time of day",
      marks: { times, text: "restart" },
      stops: stops.map(([x]) => x).filter((x) => x >= begin),
      says: says + again,
      ...more,
    };
  }

  accuracy() {
    const { overall, curves, chosen, pointed, view } = this.swarm;
    const colours = palette();
    const shown = pointed ?? chosen;
    const one = curves.get(shown);
    const each = [...curves.values()];
    const first = Math.min(...[overall, ...each].map((points) => points[0]?.[0] ?? Infinity));
    const stops = overall.length ? overall : (curves.get(view.node) ?? []);
    const tell = (point) =>
      `mean ${words.accuracy(point[1])}, worst tenth ${words.accuracy(point[2])}`;
    const shape = this.timed(Number.isFinite(first) ? first : null, stops, {
      unit_y: "accuracy (share of right answers)",
      says: `Accuracy over time. Now: ${tell(overall.at(-1) ?? [])} (estimates).`,
    });
    const alpha = each.length > 60 ? 0.25 : 0.6;
    const lines = each.map((points) => ({ points, colour: colours.node, alpha }));
    if (one) lines.push({ points: one, colour: colours.ink, width: 2 });
    lines.push({ points: overall, column: 2, colour: colours.worst, width: 2.5, dash: DASH });
    lines.push({ points: overall, colour: colours.mean, width: 2.5 });
    const known = values(overall, shape.x[0], [1, 2]);
    for (const points of each) known.push(...values(points, shape.x[0], [1]));
    const low = known.reduce((a, b) => Math.min(a, b), 1);
    const high = most(known, 0);
    const name = words.short(this.swarm.nameOf(shown));
    const read = (x) => {
      const own = one ? `, ${name} ${words.accuracy(at(one, x)[1])}` : "";
      return `${words.clock(x)}: ${tell(at(overall, x))}${own}`;
    };
    return {
      ...shape,
      y: [Math.min(Math.floor(low * 10) / 10, 0.9), Math.min(Math.ceil(high * 10 + 0.2) / 10, 1)],
      lines,
      read,
      empty: known.length ? "" : NO_ACCURACY,
    };
  }

  distance() {
    const { overall } = this.swarm;
    const shape = this.timed(overall[0]?.[0], overall, {
      unit_y: "distance (l2 norm of weights)",
      says: `Consensus distance over time, an estimate: now ${words.figure(overall.at(-1)?.[3])}.`,
    });
    const known = values(overall, shape.x[0], [3]);
    return {
      ...shape,
      y: [0, most(known, 1e-6) * 1.1],
      lines: [{ points: overall, column: 3, colour: palette().mean, width: 2.5 }],
      read: (x) => `${words.clock(x)}: ${words.figure(at(overall, x)[3])}`,
      empty: known.length ? "" : NO_ESTIMATE,
    };
  }

  traffic() {
    const { rates } = this.swarm;
    const tell = (point = []) => `${words.rate(point[1])} in, ${words.rate(point[2])} out`;
    const shape = this.timed(rates[0]?.[0], rates, {
      says: `Traffic of this node over time: now ${tell(rates.at(-1))}.`,
    });
    const high = most(values(rates, shape.x[0], [1, 2]), 100) * 1.1;
    const [unit, unit_y] = UNITS.find(([size]) => high >= size);
    const scaled = (y) => (is_known(y) ? y / unit : null);
    const points = rates.map(([x, ...ys]) => [x, ...ys.map(scaled)]);
    return {
      ...shape,
      y: [0, high / unit],
      unit_y,
      lines: [
        { points, colour: palette().mean, width: 2 },
        { points, column: 2, colour: palette().worst, width: 2, dash: DASH },
      ],
      read: (x) => `${words.clock(x)}: ${tell(at(rates, x))}`,
      empty: rates.length ? "" : "Nothing was measured yet.",
    };
  }

  events() {
    const { timeline } = this.swarm;
    const rowOf = ({ kind }) => Math.max(ROWS.findIndex(([, , kinds]) => kinds.includes(kind)), 0);
    const points = timeline.map((event) => [event.at, event]).reverse();
    const rows = timeline.map(rowOf);
    const count = (at) => rows.filter((row) => row === at).length;
    const counts = ROWS.map(([name], at) => `${count(at)} ${name}`);
    const read = (x) => {
      const { node, kind } = at(points, x)[1];
      return `${words.clock(x)}: ${node ? words.short(this.swarm.nameOf(node)) : ""} ${kind}`;
    };
    return {
      ...this.timed(points[0]?.[0], points, { says: `What happened: ${counts.join(", ")}.` }),
      y: [-0.6, ROWS.length - 0.4],
      ys: ROWS.map(([name], row) => [row, name]),
      unit_y: "",
      dots: timeline.map((event, i) => [event.at, rows[i], palette()[ROWS[rows[i]][1]]]),
      read,
      empty: points.length ? "" : "Nothing has happened yet.",
    };
  }

  staleness() {
    const { edges = [], counts = [] } = this.swarm.view.staleness ?? {};
    const name = (i) => {
      const to = is_known(edges[i + 1]) ? ` to ${words.figure(edges[i + 1])}` : " or more";
      return `${words.figure(edges[i])}${to} cycles: ${words.count(counts[i])}`;
    };
    return {
      x: [0, Math.max(counts.length, 1)],
      y: [0, most(counts, 1) * 1.1],
      xs: counts.map((_, i) => [i, words.figure(edges[i])]),
      unit_x: "staleness (cycles)",
      unit_y: "exchanges",
      bars: counts.map((n, i) => [i, i + 1, n]),
      stops: counts.map((_, i) => i),
      read: name,
      says: `Exchanges of this node by staleness. ${counts.map((_, i) => name(i)).join("; ")}.`,
      empty: counts.some((n) => n > 0) ? "" : "No exchange yet.",
    };
  }

  histogram() {
    const { edges = [], share = [] } = this.swarm.view.swarm?.histogram ?? {};
    const name = (i) => {
      const [from, to] = [edges[i], edges[i + 1]].map(words.figure);
      return `${from} to ${to}: ${words.percent(share[i])} of nodes`;
    };
    const filled = share.map((_, i) => i).filter((i) => share[i] > 0.005);
    return {
      x: [0, 1],
      y: [0, most(share, 0.1) * 110],
      unit_x: "accuracy",
      unit_y: "share of nodes (%)",
      bars: share.map((part, i) => [edges[i], edges[i + 1], Math.max(part, 0) * 100]),
      stops: share.map((_, i) => edges[i]),
      read: (x) => name(edges.indexOf(x)),
      says: `Estimated shares of nodes by accuracy. ${filled.map(name).join("; ")}.`,
      empty: filled.length ? "" : NO_ESTIMATE,
    };
  }
}
