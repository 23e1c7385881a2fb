// Puts the page together: the stream changes the swarm, the swarm asks to be drawn.
//
// Rule of the file: the picture is drawn at most once a frame, words and charts once a second; a
// hidden page draws nothing, because the browser gives it no frames.

import { byId, setText } from "./dom.js";
import { Figures } from "./figures.js";
import { Graph } from "./graph.js";
import { Live } from "./live.js";
import { Panels } from "./panels.js";
import { Swarm } from "./state.js";
import { Table } from "./table.js";

const SLOW_MS = 1000;
const root = document.documentElement;

const swarm = new Swarm();
const panels = new Panels(swarm);
const figures = new Figures(swarm);
const graph = new Graph(swarm, { choose, point });
const table = new Table(swarm, { choose, point });

let frame = 0;
let is_urgent = true;
let drawn = 0;

function ask(is_now = false) {
  is_urgent ||= is_now;
  frame ||= requestAnimationFrame(draw);
}

function draw(now) {
  frame = 0;
  graph.update();
  if (!is_urgent && now - drawn < SLOW_MS - 20) return;
  is_urgent = false;
  drawn = now;
  panels.update();
  figures.update();
  table.update();
}

function choose(id) {
  swarm.chosen = id === swarm.chosen ? null : id;
  ask(true);
}

// the pointer moves fast: only what shows one node follows it
function point(id) {
  if (id === swarm.pointed) return;
  swarm.pointed = id;
  ask();
  panels.node();
  figures.follow();
}

const live = new Live({
  view: (view) => {
    is_urgent ||= !swarm.view;
    swarm.take(view);
    ask();
  },
  merge: (one) => {
    swarm.merge(one);
    ask();
  },
  timeline: (one) => {
    swarm.event(one);
    ask(true);
  },
  state: tell,
});

// Without a session only what was known before is shown, and where to get a link.
function tell(now) {
  const is_locked = now.state === "locked";
  const parts = document.querySelectorAll("main > :not(#locked, #holding)");
  for (const part of parts) part.hidden = is_locked && !swarm.view;
  byId("locked").hidden = !is_locked;
  setText(byId("locked-why"), is_locked ? now.why : "");
  if (!is_locked) panels.state(now);
  else {
    root.dataset.live = "refused";
    setText(byId("state"), "closed: a link opens it");
    for (const id of ["why", "since"]) setText(byId(id), "");
    document.title = "× closed · p2pfl";
  }
}

// ages grow while nothing is heard
setInterval(() => {
  tell(live);
  ask();
}, SLOW_MS);

function theme() {
  setText(byId("theme-now"), root.dataset.wish);
  ask(true);
}

byId("theme").addEventListener("click", () => dispatchEvent(new Event("theme-next")));
addEventListener("theme", theme);
theme();

byId("window").addEventListener("change", (event) => {
  figures.window_s = Number(event.target.value) || Infinity;
  ask(true);
});
