// What this page knows: the newest view of the node, and what earlier views told.
//
// Rule of the file: a restart of the node takes nothing away; everything is bounded; clocks are
// never compared: all times are the node's own, `now()` is its clock as of the newest view.

const LINK_S = 60;
const FRESH_S = 15;
const FAILED_S = 3;
const POINTS = 800;
const CURVES = 400;
const NAMES = 2000;
const GONE = ["dead", "leaving", "left"];
const KEPT = { merges: 50, timeline: 200, restarts: 50 };

const list = (x) => (Array.isArray(x) ? x : []);
const pair = (a, b) => (a < b ? `${a} ${b}` : `${b} ${a}`);

// `old` with the points of `fresh`; where both speak of a time, the fresh ones are believed.
export function appended(old, fresh) {
  if (!fresh.length) return old;
  while (old.length && old.at(-1)[0] >= fresh[0][0]) old.pop();
  for (const point of fresh) old.push(point);
  if (old.length <= POINTS) return old;
  const half = old.length >> 1; // the older half loses every second point
  return old.filter((_, at) => at >= half || at % 2 === 0);
}

export class Swarm {
  constructor() {
    Object.assign(this, { view: null, chosen: null, pointed: null, skew_s: 0, names: new Map() });
    this.forget();
  }

  forget() {
    Object.assign(this, { nodes: new Map(), links: new Map(), curves: new Map() });
    Object.assign(this, { merges: [], timeline: [], restarts: [], overall: [], rates: [] });
  }

  now() {
    return this.skew_s + performance.now() / 1000;
  }

  get self() {
    return this.nodes.get(this.view?.node);
  }

  // the node whose details are shown
  get shown() {
    return this.nodes.get(this.pointed) ?? this.nodes.get(this.chosen) ?? this.self;
  }

  get living() {
    return [...this.nodes.values()].filter((node) => !GONE.includes(node.state));
  }

  nameOf(id) {
    return this.names.get(id) ?? String(id).slice(0, 8);
  }

  // how old what was told `ago` seconds before the view is by now; null: it never was
  since(ago) {
    return ago === null || ago === undefined ? null : ago + this.now() - this.view.at;
  }

  toldAgo(node) {
    return node.is_self ? node.told_ago_s : this.since(node.told_ago_s);
  }

  take(view) {
    const before = this.view;
    if (before && before.run !== view.run) this.forget();
    this.skew_s = view.at - performance.now() / 1000;
    this.view = view;
    const is_other = before && ["node", "incarnation"].some((key) => before[key] !== view[key]);
    if (is_other || view.uptime_s < before?.uptime_s) {
      this.restarts.push(view.started ?? view.at);
      this.restarts.splice(0, this.restarts.length - KEPT.restarts);
    }
    this.nodes = new Map(list(view.nodes).map((node) => [node.node, node]));
    this.call(list(view.nodes));
    for (const one of list(view.merges)) this.note("merges", one);
    for (const one of list(view.timeline)) this.note("timeline", one);
    for (const { a, b, ago_s } of list(view.links)) {
      // what one view tells happened over a second: lit all at once, the picture would blink
      const lit = before && ago_s < FRESH_S ? performance.now() + Math.random() * 1000 : 0;
      this.link(a, b, view.at - ago_s, lit);
    }
    for (const [key, link] of this.links) {
      if (view.at - link.at > LINK_S) this.links.delete(key);
    }
    this.draw(view);
  }

  // Names are labels, not identities: where two nodes have the same one, ids tell them apart.
  call(nodes) {
    const times = new Map();
    for (const { name } of nodes) times.set(name, (times.get(name) ?? 0) + 1);
    for (const { node, name } of nodes) {
      if (!name) continue;
      this.names.delete(node); // the newest stand last
      this.names.set(node, times.get(name) > 1 ? `${name} ${node.slice(0, 4)}` : name);
    }
    for (const id of this.names.keys()) {
      if (this.names.size <= NAMES) break;
      this.names.delete(id);
    }
  }

  draw({ at, curves, rates }) {
    for (const [id, points] of Object.entries(curves?.nodes ?? {})) {
      this.curves.set(id, appended(this.curves.get(id) ?? [], list(points)));
    }
    for (const id of this.curves.keys()) {
      if (this.curves.size <= CURVES) break;
      if (!this.nodes.has(id)) this.curves.delete(id);
    }
    this.overall = appended(this.overall, list(curves?.swarm));
    const now = [at, rates?.bytes_in_per_s, rates?.bytes_out_per_s];
    this.rates = appended(this.rates, rates ? [now] : []);
  }

  // One of the lists that the newest events lead; a view repeats what a live event has told.
  note(which, one) {
    const id = JSON.stringify([one.at, one.peer ?? one.node, one.role ?? one.kind]);
    const events = this[which];
    if (events.some((known) => known.id === id)) return false;
    const place = events.findIndex((known) => known.at <= one.at);
    events.splice(place < 0 ? events.length : place, 0, { ...one, id });
    events.splice(KEPT[which]);
    return true;
  }

  // The newest exchange of two nodes; its edge lights up at `lit` of this browser's clock, if any.
  link(a, b, at, lit) {
    const known = this.links.get(pair(a, b));
    // hearsay gives the same exchange slightly different ages
    if (known && at < known.at + 0.5) return;
    this.links.set(pair(a, b), { a, b, at, lit: lit || (known?.lit ?? 0), is_good: true });
  }

  // An attempt lights up, but leaves no edge where there was none.
  failed(a, b, at) {
    const before = this.links.get(pair(a, b))?.at ?? at - LINK_S + FAILED_S;
    this.links.set(pair(a, b), { a, b, at: before, lit: performance.now(), is_good: false });
  }

  merge(one) {
    const self = this.view?.node;
    if (!self || !this.note("merges", one) || one.outcome === "busy") return;
    if (one.is_accepted) this.link(self, one.peer, one.at, performance.now());
    else this.failed(self, one.peer, one.at);
  }

  // Beyond 200 nodes views come slowly: what is certain is shown at once.
  event(one) {
    if (!this.note("timeline", one)) return;
    const node = this.nodes.get(one.node);
    const state = { dead: "dead", suspect: "suspect", left: "left" }[one.kind];
    if (node && state) node.state = state;
  }
}
