// Everything that is words and numbers: the header, figures at a glance, details of one node, the
// lists of merges and events, and who does not mix with us.

import { Facts, byId, el, named, setChildren, setText } from "./dom.js";
import { COLUMNS, remarks } from "./nodes.js";
import * as words from "./words.js";

const FRESH_S = 15;
const ITEMS = 600;
const NOBODY = "no other node yet";
const STATES = {
  connecting: "looking for the node",
  live: "live",
  gone: "the node is gone: trying again",
  refused: "the node refuses this page: trying again",
};
// in signs that every font has
const SIGNS = {
  ...{ started: "▸", joined: "+", back: "+", restarted: "↻", rescued: "↻", suspect: "?" },
  ...{ dead: "×", left: "→", refused: "⊘", suspended: "⊘", denied: "⊘", fault: "!", held: "■" },
};

// how many train; if none does, what they do instead
function doing(nodes) {
  const counts = {};
  for (const state of nodes.map(words.stateOf)) counts[state] = (counts[state] ?? 0) + 1;
  const { training, ...rest } = counts;
  if (training) return `${training} training`;
  return Object.entries(rest).map(([state, count]) => `${count} ${state}`).join(", ");
}

export class Panels {
  constructor(swarm) {
    this.swarm = swarm;
    const lists = ["glance", "details", "volumes", "estimates"];
    this.facts = Object.fromEntries(lists.map((id) => [id, new Facts(byId(id))]));
    this.items = new Map(); // of merges and events: made once, only how old they are changes
    this.told = "";
  }

  state(live) {
    document.documentElement.dataset.live = live.state;
    setText(byId("state"), STATES[live.state]);
    setText(byId("why"), live.why);
    const { view, nodes } = this.swarm;
    const passed = words.span(Math.floor((Date.now() - live.since) / 1000));
    setText(byId("since"), `since ${words.clock(live.since / 1000)}, ${passed}`);
    const gone = live.state === "live" ? "" : "× gone: ";
    const count = words.plural([...nodes.values()].filter(words.isMet).length, "node");
    if (view) document.title = `${gone}${view.name} · ${count} · p2pfl`;
  }

  update() {
    const { view, merges, timeline } = this.swarm;
    if (!view) return;
    setText(byId("name"), view.name);
    setText(byId("run"), view.run);
    this.header();
    this.glance();
    this.node();
    this.totals();
    this.list("merges", merges, (one) => this.merge(one));
    this.list("timeline", timeline, (one) => this.event(one));
    this.sentences(view);
    const facts = [
      view.is_keyed ? "members only (run key)" : "open to everybody on this network",
      `trust: ${view.trust}`,
      `topology: ${view.topology}`,
      `${words.count(view.parameters)} parameters`,
      `up ${words.span(Math.floor(this.swarm.since(view.uptime_s)))}`,
      `start ${view.incarnation}`,
      `p2pfl ${view.version}`,
    ];
    setText(byId("facts"), facts.join(" · "));
  }

  // those that are there; who was only heard of may be made up
  get there() {
    return this.swarm.living.filter(words.isMet);
  }

  header() {
    const { there } = this;
    const { nodes, living, view } = this.swarm;
    const ages = there.map((n) => this.swarm.toldAgo(n) ?? null).filter((age) => age !== null);
    const fresh = ages.filter((age) => age <= FRESH_S).length;
    const out = nodes.size - living.length;
    const heardOf = living.length - there.length + (view.unlisted ?? 0);
    const gone = out ? `, ${out} gone` : "";
    const heard = heardOf ? `, ${words.count(heardOf)} ${words.HEARD_OF}` : "";
    setText(byId("how-many"), `${words.plural(there.length, "node")}${gone}${heard}`);
    const missing = there.length - ages.length;
    const parts = [`${fresh} of ${there.length} told within ${FRESH_S} s`];
    if (missing) parts.push(`${missing} never told`);
    if (ages.length) parts.push(`oldest figures: ${words.ago(Math.max(...ages))}`);
    setText(byId("complete"), parts.join(", "));
  }

  // why the figures of all nodes are this node's own, if they are
  alone() {
    if (this.there.some((node) => !node.is_self)) return "";
    const others = [...this.swarm.nodes.values()].filter((node) => !node.is_self);
    return others.some(words.isMet) ? "all others are gone" : NOBODY;
  }

  glance() {
    const { there } = this;
    const { self, view } = this.swarm;
    const { swarm: about, rates } = view;
    const alone = this.alone();
    const over = words.plural(Math.round(about?.count * about?.reporting), "node");
    const estimate = about ? `estimate over ${over}` : "no estimate yet";
    const own = alone === NOBODY ? `${alone}: its own` : alone;
    const told = (about && own) || estimate;
    const kind = alone || "estimate";
    const traffic = (rates?.bytes_in_per_s ?? NaN) + (rates?.bytes_out_per_s ?? NaN);
    this.facts.glance.show([
      ["Nodes", words.count(there.length), alone || doing(there)],
      ["Mean accuracy", words.accuracy(about?.mean_accuracy), told],
      ["Worst tenth", words.accuracy(about?.worst_tenth_accuracy), told],
      ["Consensus distance", words.figure(about?.consensus_distance), about ? kind : told],
      ["This node", words.accuracy(self?.accuracy), `loss ${words.figure(self?.loss)}`],
      ["Its exchanges", `${words.figure(rates?.exchanges_per_s)}/s`, "asked and answered"],
      ["Its traffic", words.rate(traffic), "in and out"],
    ]);
  }

  node() {
    const node = this.swarm.shown;
    if (!node) return;
    setText(byId("details-name"), this.swarm.nameOf(node.node));
    setText(byId("details-what"), `${node.is_self ? "this node, " : ""}${node.node.slice(0, 16)}`);
    setText(byId("details-remarks"), remarks(node));
    const shown = COLUMNS.slice(1, -1);
    const columns = shown.map(([title, , , text]) => [title, text(node, this.swarm)]);
    columns[0].push(words.STATES[words.stateOf(node)][0]);
    const address = node.addresses?.[0] ?? words.NONE;
    this.facts.details.show([
      ...columns,
      ["Start", words.count(node.incarnation)],
      ["Address", address],
    ]);
  }

  totals() {
    const { self, view } = this.swarm;
    const { swarm: about, rates } = view;
    const told = this.there.map((node) => node.bytes_out ?? null).filter((n) => n !== null);
    const sum = told.reduce((all, n) => all + n, 0);
    this.facts.volumes.show([
      ["In", words.rate(rates?.bytes_in_per_s), `${words.volume(self?.bytes_in)} since start`],
      ["Out", words.rate(rates?.bytes_out_per_s), `${words.volume(self?.bytes_out)} since start`],
      ["Nodes heard lately sent", words.volume(sum), `as ${words.count(told.length)} of them tell`],
    ]);
    const kind = this.alone() || "estimate";
    this.facts.estimates.show([
      ["Nodes", words.figure(about?.count), kind],
      ["With an accuracy", words.percent(about?.reporting), kind],
      ["Mean loss", words.figure(about?.mean_loss), kind],
    ]);
  }

  list(name, events, make) {
    byId(`no-${name}`).hidden = events.length > 0;
    const wanted = events.map((one) => {
      const key = `${name} ${one.id}`;
      if (!this.items.has(key)) this.items.set(key, make(one));
      const item = this.items.get(key);
      setText(item.querySelector("time"), words.ago(Math.max(this.swarm.now() - one.at, 0)));
      return item;
    });
    setChildren(byId(name), wanted);
    for (const [key, item] of this.items) {
      if (this.items.size <= ITEMS) break;
      if (!item.isConnected) this.items.delete(key);
    }
  }

  time(at) {
    return el("time", { datetime: new Date(at * 1000).toISOString(), title: words.clock(at) });
  }

  merge(one) {
    const took = one.is_accepted ? "taken" : one.outcome === "busy" ? "busy" : "not taken";
    const figures = {
      weight: words.figure(one.weight),
      staleness: `${words.figure(one.staleness)} cycles`,
      distance: words.figure(one.distance),
      in: words.volume(one.bytes_in),
      out: words.volume(one.bytes_out),
      took: words.span(one.seconds),
    };
    const pairs = Object.entries(figures).map(([k, v]) => el("span", {}, `${k} `, el("b", {}, v)));
    const head = [
      el("span", { class: `verdict ${took.replace(" ", "-")}` }, took),
      el("strong", {}, named(this.swarm.nameOf(one.peer))),
      el("span", { class: "soft" }, `${one.role} · ${one.outcome}`),
      this.time(one.at),
    ];
    const why = el("p", {}, one.why ?? "");
    const small = el("div", { class: "small" }, ...pairs);
    return el("li", {}, el("div", { class: "head" }, ...head), why, small);
  }

  event({ at, kind, node, detail }) {
    const known = Object.hasOwn(SIGNS, kind);
    const sign = el("span", { class: `sign ${known ? kind : ""}`, "aria-hidden": "true" });
    sign.append(known ? SIGNS[kind] : "·");
    const who = node ? [el("strong", {}, named(this.swarm.nameOf(node))), " "] : [];
    const what = el("div", {}, ...who, `${kind} `, el("span", { class: "soft" }, detail ?? ""));
    return el("li", {}, sign, what, this.time(at));
  }

  // What is told in sentences changes rarely.
  sentences({ others = {}, holding = [] }) {
    const told = JSON.stringify([others, holding]);
    if (told === this.told) return;
    this.told = told;
    byId("holding").hidden = !holding.length;
    byId("holding-list").replaceChildren(...holding.map((one) => el("li", {}, one)));
    const pairs = Object.entries(others).map(([address, why]) => [
      el("dt", {}, named(address)),
      el("dd", {}, named(String(why))),
    ]);
    byId("others").replaceChildren(...pairs.flat());
    byId("no-others").hidden = pairs.length > 0;
  }
}
