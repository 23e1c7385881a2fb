// The table of all nodes: sortable by every column, one line a node, with what is held against it.

import { byId, el, named, setAttribute, setChildren, setClass, setText } from "./dom.js";
import { COLUMNS, remarks } from "./nodes.js";
import * as words from "./words.js";

const FIRST = matchMedia("(max-width: 40rem)").matches ? 10 : 25;
const RISING = ["Node", "State", "Heard", "Told"]; // who sorts by the others asks for the largest

export class Table {
  constructor(swarm, { choose, point }) {
    Object.assign(this, { swarm, column: 0, is_down: false, most: FIRST, rows: new Map() });
    this.body = byId("nodes-body");
    this.unlisted = el("p", { class: "soft", id: "unlisted" });
    byId("more").parentElement.after(this.unlisted);
    this.heads = COLUMNS.map(([title, meaning], column) => {
      const button = el("button", { type: "button", title: meaning }, title);
      button.addEventListener("click", () => this.sort(column));
      return el("th", { role: "columnheader", scope: "col" }, button);
    });
    byId("nodes-head").append(...this.heads);
    const idOf = (event) => event.target.closest("tr")?.dataset.node ?? null;
    this.body.addEventListener("click", (event) => choose(idOf(event)));
    for (const kind of ["pointerover", "focusin"]) {
      this.body.addEventListener(kind, (event) => point(idOf(event)));
    }
    for (const kind of ["pointerleave", "focusout"]) {
      this.body.addEventListener(kind, () => point(null));
    }
    byId("filter").addEventListener("input", () => this.update());
    byId("more").addEventListener("click", () => {
      this.most = this.most === FIRST ? Infinity : FIRST;
      this.update();
    });
  }

  sort(column) {
    const is_same = this.column === column;
    this.is_down = is_same ? !this.is_down : !RISING.includes(COLUMNS[column][0]);
    this.column = column;
    this.update();
  }

  update() {
    const { swarm } = this;
    if (!swarm.view) return;
    const wanted = byId("filter").value.trim().toLowerCase();
    const all = [...swarm.nodes.values()];
    const found = all.filter((node) => !wanted || this.wordsOf(node).includes(wanted));
    found.sort((a, b) => this.compare(a, b));
    setChildren(this.body, found.slice(0, this.most).map((node) => this.row(node)));
    for (const id of this.rows.keys()) if (!swarm.nodes.has(id)) this.rows.delete(id);
    this.heads.forEach((head, column) => {
      const way = this.is_down ? "descending" : "ascending";
      setAttribute(head, "aria-sort", column === this.column ? way : "none");
    });
    setText(byId("nodes-found"), wanted ? `${found.length} of ${all.length}` : "");
    byId("more").hidden = found.length <= FIRST;
    const more = this.most === FIRST ? `Show all ${found.length}` : `Show the first ${FIRST}`;
    setText(byId("more"), more);
    const { unlisted } = swarm.view;
    const besides = `and ${words.count(unlisted)} more that were only heard of`;
    setText(this.unlisted, unlisted ? besides : "");
  }

  wordsOf(node) {
    const texts = [node.node, this.swarm.nameOf(node.node), words.stateOf(node), remarks(node)];
    return [...texts, ...(node.addresses ?? [])].join(" ").toLowerCase();
  }

  // whoever was only heard of stands last, whichever way the others stand
  compare(a, b) {
    if (words.isMet(a) !== words.isMet(b)) return words.isMet(a) ? -1 : 1;
    const [x, y] = [a, b].map((node) => COLUMNS[this.column][2](node, this.swarm) ?? null);
    const tie = a.node < b.node ? -1 : 1;
    if (x === null || y === null) return (x === null) - (y === null) || tie;
    const order = typeof x === "string" ? x.localeCompare(y, "en", { numeric: true }) : x - y;
    return (this.is_down ? -order : order) || tie;
  }

  row(node) {
    const { swarm } = this;
    if (!this.rows.has(node.node)) {
      const button = el("button", { type: "button", class: "name" }, named(""));
      const cells = COLUMNS.map(([title]) => el("td", { role: "cell", "data-title": title }));
      cells[0].append(button, " ", el("small"));
      this.rows.set(node.node, el("tr", { role: "row", "data-node": node.node }, ...cells));
    }
    const row = this.rows.get(node.node);
    const [button, id] = row.firstElementChild.children;
    COLUMNS.forEach(([, , , text], at) => {
      setText(at ? row.children[at] : button.firstElementChild, text(node, swarm));
    });
    setAttribute(button, "aria-pressed", node.node === swarm.chosen);
    setText(id, node.is_self ? "this node" : node.name ? node.node.slice(0, 8) : "no name");
    setClass(row, "is-chosen", node.node === swarm.chosen);
    setClass(row, "soft", !words.isMet(node));
    setAttribute(row, "data-state", words.stateOf(node));
    return row;
  }
}
