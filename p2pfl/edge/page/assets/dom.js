// Making and changing elements. Names and reasons come from strangers, so nothing here or
// anywhere on this page parses text as HTML: text goes in as text nodes.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

function filled(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) {
      node.setAttribute(key, value === true ? "" : value);
    }
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

export function el(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

// A name keeps its writing direction to itself.
export const named = (text) => el("bdi", {}, text);

// The setters touch the document only where something changed: a page that is rewritten every
// second costs nothing while nothing happens.
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setAttribute(node, key, value) {
  if (node.getAttribute(key) !== String(value)) node.setAttribute(key, value);
}

export function setClass(node, name, is_on) {
  if (node.classList.contains(name) !== is_on) node.classList.toggle(name, is_on);
}

// The children of `parent` become `wanted`, in this order; what stands right is not touched.
export function setChildren(parent, wanted) {
  wanted.forEach((node, at) => {
    if (parent.children[at] !== node) parent.insertBefore(node, parent.children[at] ?? null);
  });
  while (parent.children.length > wanted.length) parent.lastElementChild.remove();
}

// Pairs of a term and its value, the elements of which are made once and kept.
export class Facts {
  constructor(list) {
    this.list = list;
    this.kept = new Map();
  }

  show(pairs) {
    const wanted = pairs.map(([term, value, note]) => {
      if (!this.kept.has(term)) {
        const parts = [el("dt", {}, term), el("dd"), el("dd", { class: "note" })];
        this.kept.set(term, el("div", {}, ...parts));
      }
      const [, dd, small] = this.kept.get(term).children;
      setText(dd, value);
      setText(small, note ?? "");
      small.hidden = !note;
      return this.kept.get(term);
    });
    setChildren(this.list, wanted);
  }
}
