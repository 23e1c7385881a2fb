// The stream of a node, and whether it lives.
//
// The browser tries again by itself after a broken connection, but not after an answer that is an
// error, and it does not notice a machine that went dark: both are seen to here.

const AGAIN_MS = 2000;
const LOOK_MS = 500;
const FIRST_S = 10; // a busy node may take its time for the first view
const SILENCE_S = 4;
const SILENCE_OF_MANY_S = 12; // beyond 200 nodes a view comes every 5 s
const MANY = 200;

const NO_LINK = "it does not know this browser (any more): ask `p2pfl page` for a new link";
const WHYS = { 401: NO_LINK, 403: NO_LINK, 503: "it is too busy for one more page" };
const CROWDED = "too many pages are open at this node: this one asks every 2 s";
const UNREADABLE = "the node speaks another version: reload the page";

export class Live {
  // `on.view`, `on.merge` and `on.timeline` get what the node says; `on.state` gets this object
  // when `state` ("connecting", "live", "gone", "refused") or `why` has changed.
  constructor(on) {
    Object.assign(this, { on, state: "connecting", why: "", since: Date.now(), again: null });
    this.open();
    setInterval(() => this.look(), LOOK_MS);
  }

  open() {
    clearTimeout(this.again);
    this.again = null;
    this.source?.close();
    const source = new EventSource("/v1/live");
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
    this.heard = performance.now();
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
      const answer = await fetch("/v1/view", { cache: "no-store" });
      if (answer.ok) this.take("view", await answer.text(), CROWDED);
      else this.become("refused", WHYS[answer.status] ?? `it answers ${answer.status}`);
    } catch {
      this.become("gone", "");
    }
  }

  look() {
    if (performance.now() - this.heard < this.patience_s * 1000 || this.again) return;
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
