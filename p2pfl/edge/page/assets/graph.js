// The swarm as a picture: nodes are SVG, for keyboard and screen readers; edges, which change all
// the time, are painted on two canvases below them: those at rest, and those that light up.

import { lowOf, ofAccuracy, palette } from "./colours.js";
import { byId, el, setAttribute, setChildren, setClass, setText, svg } from "./dom.js";
import { outline, places } from "./layout.js";
import * as words from "./words.js";

const LIT_MS = 1400;
const MOVE_MS = 500;
const LINK_S = 60;
const LABELS_UP_TO = 60;
const CALM = 60; // edges; beyond, each is fainter
const SHADES = 12;
const REST_MS = 450;
const still = matchMedia("(prefers-reduced-motion: reduce)");

function shapeOf(state, radius) {
  const shape = words.STATES[state][1];
  return shape === "speck" ? outline("ring", radius * 0.6) : outline(shape, radius);
}

export class Graph {
  constructor(swarm, { choose, point }) {
    Object.assign(this, { swarm, choose, point, low: 0, frame: 0, size: [0, 0], order: [] });
    this.stop = null; // where the tab key comes in
    this.box = byId("graph");
    this.canvases = [...this.box.querySelectorAll("canvas")];
    [this.rest, this.pen] = this.canvases.map((canvas) => canvas.getContext("2d"));
    this.picture = this.box.querySelector("svg");
    this.drawn = new Map(); // node id -> its elements, and where it stands
    this.legend = new Map();
    new ResizeObserver(() => this.resize()).observe(this.box);
    addEventListener("theme", () => (this.rested = -Infinity)); // other colours
    const idOf = (event) => event.target.closest(".node")?.dataset.node ?? null;
    // not at the picture: Chromium makes one that listens to focus a stop of the tab key itself
    const on = (kind, then) => this.box.addEventListener(kind, then);
    on("click", (event) => choose(idOf(event)));
    on("keydown", (event) => this.key(event, idOf(event)));
    for (const kind of ["pointerover", "focusin"]) on(kind, (event) => point(idOf(event)));
    for (const kind of ["pointerleave", "focusout"]) on(kind, () => point(null));
  }

  // one stop of the tab key for all nodes; arrows go around
  key(event, id) {
    const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
    const all = this.order.length;
    let at = this.order.indexOf(id);
    if (event.key === "Enter" || event.key === " ") this.choose(id);
    else if (event.key in steps) at = (at + steps[event.key] + all) % all;
    else if (event.key === "Home") at = 0;
    else if (event.key === "End") at = all - 1;
    else return;
    event.preventDefault();
    this.stop = this.order[at];
    this.update();
    this.drawn.get(this.stop).group.focus();
  }

  resize() {
    const { width, height } = this.box.getBoundingClientRect();
    const sharp = devicePixelRatio || 1;
    if (!width) return;
    this.size = [width, height];
    for (const canvas of this.canvases) {
      Object.assign(canvas, { width: width * sharp, height: height * sharp });
      canvas.getContext("2d").setTransform(sharp, 0, 0, sharp, 0, 0);
    }
    setAttribute(this.picture, "viewBox", `0 0 ${width} ${height}`);
    Object.assign(this, { placed: null, rested: -Infinity });
    for (const one of this.drawn.values()) one.to = null; // no flight over a new size
    this.update();
  }

  // Everything that may have changed; cheap where nothing did.
  update() {
    const { nodes, view, living } = this.swarm;
    if (!view || !this.size[0]) return;
    // what is said of somebody who may be made up is no measure for the others
    const known = living.filter(words.isMet);
    this.low = lowOf(known.map((node) => node.accuracy ?? null), this.low);
    this.place([...nodes.keys()].sort());
    for (const id of this.order) this.dress(nodes.get(id), this.drawn.get(id));
    this.label();
    this.explain([...nodes.values()].map(words.stateOf));
    byId("no-nodes").hidden = nodes.size > 1;
    this.wake();
  }

  place(ids) {
    const me = Math.max(ids.indexOf(this.swarm.view.node), 0);
    this.order = [...ids.slice(me), ...ids.slice(0, me)]; // this node stands on top
    if (this.placed === this.order.join()) return;
    this.placed = this.order.join();
    const aside = ids.length > LABELS_UP_TO ? 24 : this.size[0] < 480 ? 52 : 96;
    const plan = places(ids.length, ...this.size, aside);
    this.radius = plan.radius;
    this.order.forEach((id, at) => {
      const one = this.drawn.get(id) ?? this.make(id);
      const is_new = !one.to;
      one.to = plan.places[at];
      Object.assign(one, { from: [one.x, one.y], since: performance.now() });
      if (is_new || still.matches) this.stand(one, one.to.x, one.to.y);
    });
    for (const id of this.drawn.keys()) if (!this.swarm.nodes.has(id)) this.drawn.delete(id);
    setChildren(this.picture, this.order.map((id) => this.drawn.get(id).group));
  }

  make(id) {
    const one = {
      halo: svg("circle", { class: "halo" }),
      reach: svg("circle", { class: "reach" }), // a finger is bigger than a node
      shape: svg("path", { class: "shape" }),
      label: svg("text", { class: "label" }),
    };
    one.group = svg("g", { class: "node", role: "button", "data-node": id }, ...Object.values(one));
    this.drawn.set(id, one);
    return one;
  }

  stand(one, x, y) {
    Object.assign(one, { x, y });
    one.group.setAttribute("transform", `translate(${x.toFixed(1)} ${y.toFixed(1)})`);
  }

  dress(node, one) {
    const { chosen, pointed } = this.swarm;
    const state = words.stateOf(node);
    const accuracy = node.accuracy ?? null;
    const is_chosen = node.node === chosen;
    setAttribute(one.shape, "d", shapeOf(state, this.radius));
    const is_gone = ["dead", "left"].includes(state);
    one.shape.style.fill = (!is_gone && ofAccuracy(accuracy, this.low)) || "";
    setAttribute(one.halo, "r", this.radius + 4);
    setAttribute(one.reach, "r", Math.max(this.radius + 2, Math.min(12, this.radius * 1.6)));
    setClass(one.group, "is-self", node.is_self === true);
    setClass(one.group, "is-dead", state === "dead");
    setClass(one.group, "is-left", state === "left");
    setClass(one.group, "is-chosen", is_chosen);
    setClass(one.group, "is-pointed", node.node === pointed);
    setAttribute(one.group, "aria-pressed", is_chosen);
    const stop = this.drawn.has(this.stop) ? this.stop : this.order[0];
    setAttribute(one.group, "tabindex", node.node === stop ? 0 : -1);
    const told = accuracy === null ? "accuracy not known" : `accuracy ${words.accuracy(accuracy)}`;
    const who = `${this.swarm.nameOf(node.node)}${node.is_self ? " (this node)" : ""}`;
    setAttribute(one.group, "aria-label", `${who}: ${state}, ${told}`);
  }

  // Names where they fit: the important ones first, none over another.
  label() {
    const { chosen, pointed, view } = this.swarm;
    const first = [pointed, chosen, view.node].filter((id) => this.drawn.has(id));
    const taken = [];
    this.pen.font = "600 12px system-ui, sans-serif";
    for (const one of this.drawn.values()) setClass(one.label, "is-hidden", true);
    const rest = this.order.length > LABELS_UP_TO ? [] : this.order;
    for (const id of new Set([...first, ...rest])) {
      const one = this.drawn.get(id);
      const aside = Math.sin(one.to.angle);
      const text = words.short(this.swarm.nameOf(id), 14);
      const wide = this.pen.measureText(text).width;
      const part = aside > 0.25 ? 0 : aside < -0.25 ? 1 : 0.5; // of the text, left of its anchor
      const far = this.radius + 9;
      const dy = 4 - Math.cos(one.to.angle) * far * (part === 0.5 ? 1.25 : 0.8);
      const wish = one.to.x + aside * far - part * wide;
      const x = Math.min(Math.max(wish, 2), this.size[0] - wide - 2);
      const [left, right, y] = [x - 4, x + wide + 4, one.to.y + dy];
      const is_over = (it) => left < it.right && right > it.left && Math.abs(y - it.y) < 14;
      if (!first.includes(id) && (Math.abs(x - wish) > 4 || taken.some(is_over))) continue;
      taken.push({ left, right, y });
      setText(one.label, text);
      setAttribute(one.label, "x", (x - one.to.x).toFixed(1));
      setAttribute(one.label, "y", dy.toFixed(1));
      setClass(one.label, "is-hidden", false);
    }
  }

  // The legend counts, so that nothing is told by shape or colour alone.
  explain(states) {
    const items = Object.entries(words.STATES).map(([state, [meaning]]) => {
      if (!this.legend.has(state)) {
        const path = svg("path", { d: shapeOf(state, 5.5), class: "shape" });
        const icon = svg("svg", { viewBox: "-8 -8 16 16", "aria-hidden": "true" }, path);
        const parts = [icon, state, " ", el("b")];
        const name = `is-${state.replaceAll(" ", "-")}`;
        this.legend.set(state, el("li", { class: name, title: meaning }, ...parts));
      }
      const item = this.legend.get(state);
      const count = states.filter((one) => one === state).length;
      setText(item.lastElementChild, String(count));
      setClass(item, "is-none", !count);
      return item;
    });
    setChildren(byId("shapes"), items);
    setText(byId("scale-low"), `${words.accuracy(this.low)}${this.low ? " and less" : ""}`);
  }

  wake() {
    this.frame ||= requestAnimationFrame((now) => this.paint(now));
  }

  // One frame; asks for another only while something moves or lights up.
  paint(now) {
    this.frame = 0;
    const is_moving = this.move(now);
    const { nodes, pointed, chosen } = this.swarm;
    const focus = nodes.has(pointed) ? pointed : chosen;
    if (is_moving || focus !== this.focus || now - this.rested > REST_MS) {
      Object.assign(this, { focus, rested: now });
      this.paintRest();
    }
    const is_fading = this.paintLit(now) && !still.matches;
    if (is_moving || is_fading) this.wake();
  }

  move(now) {
    const all = [...this.drawn.values()];
    const moving = all.filter(({ x, y, to }) => x !== to.x || y !== to.y);
    for (const one of moving) {
      const left = (1 - Math.min(Math.max(now - one.since, 0) / MOVE_MS, 1)) ** 3;
      const { x, y } = one.to;
      this.stand(one, x + (one.from[0] - x) * left, y + (one.from[1] - y) * left);
    }
    return moving.length > 0;
  }

  // The edges of the last minute: there may be thousands, and they change slowly.
  paintRest() {
    const { swarm, focus } = this;
    const { link: colour, soft } = palette();
    const clock = swarm.now();
    const shades = Array.from({ length: SHADES }, () => new Path2D());
    const mine = new Path2D();
    for (const link of swarm.links.values()) {
      const fresh = Math.max(1 - (clock - link.at) / LINK_S, 0);
      const shade = shades[Math.min(Math.floor(fresh ** 1.5 * SHADES), SHADES - 1)];
      this.curve(link.a === focus || link.b === focus ? mine : shade, link);
    }
    this.rest.clearRect(0, 0, ...this.size);
    const calm = Math.min(1, CALM / swarm.links.size) ** 0.7 * (focus ? 0.5 : 1);
    shades.forEach((path, at) => {
      this.stroke(this.rest, path, colour, 1, (0.05 + 0.6 * (at / SHADES)) * calm);
    });
    this.stroke(this.rest, mine, soft, 1.5, 0.9);
  }

  // Those that light up now; true if there are any, or will be.
  paintLit(now) {
    const { accent, bad } = palette();
    const brightness = (link) => (link.lit ? 1 - (now - link.lit) / LIT_MS : 0); // above 1: not yet
    const coming = [...this.swarm.links.values()].filter((link) => brightness(link) > 0);
    const lit = coming.filter((link) => brightness(link) <= 1);
    const busy = Math.min(1, CALM / lit.length) ** 0.5;
    this.pen.clearRect(0, 0, ...this.size);
    for (const link of lit) {
      const path = new Path2D();
      this.curve(path, link);
      const strength = (still.matches ? 1 : brightness(link)) * busy;
      const width = 1 + 1.8 * strength * busy;
      this.stroke(this.pen, path, link.is_good ? accent : bad, width, strength);
    }
    return coming.length > 0;
  }

  // Edges bend towards the middle: those of neighbours on the ring do not run through others.
  curve(path, link) {
    const [a, b] = [this.drawn.get(link.a), this.drawn.get(link.b)];
    if (!a || !b) return;
    const bent = (p, q, middle) => ((p + q) / 2) * 0.65 + middle * 0.35;
    const by = [bent(a.x, b.x, this.size[0] / 2), bent(a.y, b.y, this.size[1] / 2)];
    path.moveTo(a.x, a.y);
    path.quadraticCurveTo(...by, b.x, b.y);
  }

  stroke(pen, path, strokeStyle, lineWidth, globalAlpha) {
    Object.assign(pen, { strokeStyle, lineWidth, globalAlpha, lineCap: "round" });
    pen.stroke(path);
  }
}
