// The stream of a node, and whether it lives.
//
// The browser tries again by itself after a broken connection, but not after an answer that is an
// error, and it does not notice a machine that went dark: both are seen to here. Whoever has no
// session is not let in by asking again: the page waits for a link then.

import { asked, begin, taken } from "./session.js";

const AGAIN_MS = 2000;
const LOOK_MS = 500;
const FIRST_S = 10; // a busy node may take its time for the first view
const SILENCE_S = 4;
const SILENCE_OF_MANY_S = 12; // beyond 200 nodes a view comes every 5 s
const MANY = 200;

const BUSY = "it is too busy for one more page";
const CROWDED = "too many pages are open at this node: this one asks every 2 s";
const UNREADABLE = "the node speaks another version: reload the page";

export class Live {
  // `on.view`, `on.merge` and `on.timeline` get what the node says; `on.state` gets this object
  // when `state` ("connecting", "live", "gone", "refused", "locked") or `why` has changed.
  constructor(on) {
    Object.assign(this, { on, state: "connecting", why: "", since: Date.now(), again: null });
    Object.assign(this, { heard: performance.now(), patience_s: FIRST_S, objection: "" });
    this.enter(taken());
    addEventListener("hashchange", () => {
      const secret = taken();
      if (secret !== null) this.enter(secret);
    });
    // a link may have opened another tab meanwhile
    addEventListener("storage", () => {
      if (this.state === "locked") this.enter(null);
    });
    setInterval(() => this.look(), LOOK_MS);
  }

  async enter(secret) {
    this.become("connecting", "");
    this.objection = secret === null ? "" : await begin(secret);
    this.open();
  }

  open() {
    clearTimeout(this.again);
    this.again = null;
    this.source?.close();
    const source = new EventSource(asked("/v1/live"));
    Object.assign(this, { source, heard: performance.now(), patience_s: FIRST_S });
    for (const kind of ["view", "merge", "timeline"]) {
      source.addEventListener(kind, (event) => this.take(kind, event.data));
    }
    source.addEventListener("error", () => {
      if (source !== this.source) return;
      if (source.readyState === EventSource.CLOSED) this.ask();
      else this.become("gone", "");
    });
  }

  take(kind, data, why = "") {
    Object.assign(this, { heard: performance.now(), objection: "" });
    let told = {};
    try {
      told = JSON.parse(data);
    } catch {
      // said below: it is not of our format
    }
    if (kind !== "view") this.on[kind](told);
    else if (told.format === 1) {
      this.patience_s = told.nodes?.length > MANY ? SILENCE_OF_MANY_S : SILENCE_S;
      this.on.view(told);
      this.become("live", why);
    } else this.become("live", UNREADABLE);
  }

  // The stream does not tell why it was refused; the view does, or stands in for the stream.
  async ask() {
    if (this.again) return;
    this.again = setTimeout(() => this.open(), AGAIN_MS);
    try {
      const answer = await fetch(asked("/v1/view"), { cache: "no-store" });
      const text = await answer.text();
      if (answer.ok) this.take("view", text, CROWDED);
      else if (answer.status === 403) this.lock(this.objection || text);
      else this.become("refused", answer.status === 503 ? BUSY : `it answers ${answer.status}`);
    } catch {
      this.become("gone", "");
    }
  }

  lock(why) {
    clearTimeout(this.again);
    this.again = null;
    this.become("locked", why.trim());
  }

  look() {
    if (this.again || this.state === "locked") return;
    if (performance.now() - this.heard < this.patience_s * 1000) return;
    this.become("gone", "it fell silent, without a goodbye");
    this.open();
  }

  become(state, why) {
    if (this.state === state && (this.why === why || state === "gone")) return;
    if (this.state !== state) this.since = Date.now();
    Object.assign(this, { state, why });
    this.on.state(this);
  }
}
