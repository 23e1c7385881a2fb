// A plot on a canvas: axes that say their unit, lines, bars, dots, marks, and a cursor that reads
// values to the mouse and to the keyboard (arrows). What it shows is an argument of `draw`:
//
//   x, y            [low, high]
//   unit_x, unit_y  what the axes count
//   is_time         x is seconds since 1970
//   xs, ys          [[value, text]] in place of round values
//   lines           [{points, column, colour, width, dash, alpha}]; y is points[i][column]
//   bars, dots      [[x from, x to, y]], [[x, y, colour]]
//   marks           {times, text}
//   stops, read     where the cursor may stop; what it reads there
//   says, empty     the plot in words; why there is none

import { timeTicks, ticks } from "./axes.js";
import { palette } from "./colours.js";
import { setAttribute, setText } from "./dom.js";

const FONT = "11px system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif";

const part = (value, [low, high]) => (value - low) / (high - low || 1);

export class Plot {
  constructor(figure) {
    this.canvas = figure.querySelector("canvas");
    this.output = figure.querySelector("output");
    this.empty = figure.querySelector(".empty");
    this.pen = this.canvas.getContext("2d");
    this.cursor = null; // an x of the data
    new ResizeObserver(() => this.shape && this.draw(this.shape)).observe(this.canvas);
    this.canvas.addEventListener("pointermove", (event) => this.point(event.offsetX));
    this.canvas.addEventListener("pointerleave", () => this.read(null));
    this.canvas.addEventListener("blur", () => this.read(null));
    this.canvas.addEventListener("keydown", (event) => this.key(event));
  }

  get stops() {
    return this.shape?.empty ? [] : (this.shape?.stops ?? []);
  }

  point(pixel) {
    if (!this.stops.length) return;
    const off = (x) => Math.abs(this.xOf(x) - pixel);
    this.read(this.stops.reduce((a, b) => (off(b) < off(a) ? b : a)));
  }

  key(event) {
    const last = this.stops.length - 1;
    const now = this.stops.findLastIndex((x) => x <= (this.cursor ?? Infinity));
    const left = now - (this.cursor !== null);
    const far = { ArrowLeft: left, ArrowRight: now + 1, Home: 0, End: last };
    if (event.key === "Escape") this.read(null);
    else if (last < 0 || !(event.key in far)) return;
    else this.read(this.stops[Math.min(Math.max(far[event.key], 0), last)]);
    event.preventDefault();
  }

  read(x) {
    this.cursor = x;
    if (this.shape) this.draw(this.shape);
  }

  draw(shape) {
    this.shape = shape;
    const { clientWidth: width, clientHeight: height } = this.canvas;
    setAttribute(this.canvas, "aria-label", shape.empty || shape.says);
    setText(this.empty, shape.empty);
    this.empty.hidden = !shape.empty;
    if (!this.stops.includes(this.cursor)) this.cursor = null;
    setText(this.output, this.cursor === null ? "" : shape.read(this.cursor));
    if (!width) return;
    const { pen } = this;
    const sharp = devicePixelRatio || 1;
    const size = { width: Math.round(width * sharp), height: Math.round(height * sharp) };
    if (this.canvas.width !== size.width || this.canvas.height !== size.height) {
      Object.assign(this.canvas, size); // this clears it, and is slow
    }
    pen.setTransform(sharp, 0, 0, sharp, 0, 0);
    pen.clearRect(0, 0, width, height);
    if (shape.empty) return;
    pen.font = FONT;
    const ys = shape.ys ?? ticks(...shape.y, Math.max(height / 42, 2));
    const left = Math.max(...ys.map(([, text]) => pen.measureText(text).width), 18) + 10;
    this.inner = { left, right: width - 10, top: 20, bottom: height - 34 };
    this.axes(ys, width, height);
    pen.save();
    pen.beginPath();
    pen.rect(left, 16, width - 10 - left, height - 49);
    pen.clip();
    this.bars(shape.bars ?? []);
    for (const line of shape.lines ?? []) this.line(line);
    this.dots(shape.dots ?? []);
    pen.restore();
    if (shape.marks) this.marks(shape.marks);
    if (this.cursor !== null && !shape.bars) this.upright(this.cursor, palette().soft);
  }

  xOf(x) {
    const { left, right } = this.inner;
    return left + part(x, this.shape.x) * (right - left);
  }

  yOf(y) {
    const { top, bottom } = this.inner;
    return bottom - part(y, this.shape.y) * (bottom - top);
  }

  axes(ys, width, height) {
    const { pen, shape, inner } = this;
    const { grid, soft, edge } = palette();
    Object.assign(pen, { lineWidth: 1, strokeStyle: grid, fillStyle: soft });
    for (const [y, text] of ys) {
      this.segment(inner.left, this.yOf(y), inner.right, this.yOf(y));
      this.write(text, inner.left - 6, this.yOf(y), "right");
    }
    this.write(shape.unit_y, 2, 7, "left");
    const most = Math.max((inner.right - inner.left) / 80, 2);
    const xs = shape.xs ?? (shape.is_time ? timeTicks : ticks)(...shape.x, most);
    pen.strokeStyle = edge;
    this.segment(inner.left, inner.bottom, inner.right, inner.bottom);
    for (const [x, text] of xs) {
      const half = pen.measureText(text).width / 2;
      const at = Math.min(Math.max(this.xOf(x), half), width - half - 1);
      this.segment(this.xOf(x), inner.bottom, this.xOf(x), inner.bottom + 4);
      this.write(text, at, inner.bottom + 12, "center");
    }
    this.write(shape.unit_x, inner.right, height - 7, "right");
  }

  write(text, x, y, textAlign) {
    Object.assign(this.pen, { textAlign, textBaseline: "middle" });
    this.pen.fillText(text, x, y);
  }

  segment(x0, y0, x1, y1) {
    this.pen.beginPath();
    this.pen.moveTo(Math.round(x0) + 0.5, Math.round(y0) + 0.5);
    this.pen.lineTo(Math.round(x1) + 0.5, Math.round(y1) + 0.5);
    this.pen.stroke();
  }

  upright(x, strokeStyle) {
    Object.assign(this.pen, { strokeStyle, lineWidth: 1 });
    this.segment(this.xOf(x), this.inner.top - 4, this.xOf(x), this.inner.bottom);
  }

  // A gap where a value is not known; one point a pixel is enough.
  line({ points, column = 1, colour, width = 1, dash = [], alpha = 1 }) {
    const { pen } = this;
    pen.beginPath();
    let is_down = false;
    let last = -Infinity;
    for (const point of points) {
      const y = point[column] ?? null;
      const px = this.xOf(point[0]);
      if (y !== null && is_down && px - last < 0.7) continue;
      if (y !== null && is_down) pen.lineTo(px, this.yOf(y));
      else if (y !== null) pen.moveTo(px, this.yOf(y));
      is_down = y !== null;
      last = px;
    }
    Object.assign(pen, { strokeStyle: colour, lineWidth: width, globalAlpha: alpha });
    Object.assign(pen, { lineJoin: "round", lineCap: dash.length ? "butt" : "round" });
    pen.setLineDash(dash);
    pen.stroke();
    pen.setLineDash([]);
    pen.globalAlpha = 1;
  }

  bars(bars) {
    const { bar, accent } = palette();
    for (const [from, to, y] of bars) {
      this.pen.fillStyle = from === this.cursor ? accent : bar;
      const wide = this.xOf(to) - this.xOf(from) - 2;
      this.pen.fillRect(this.xOf(from) + 1, this.yOf(y), wide, this.inner.bottom - this.yOf(y));
    }
  }

  dots(dots) {
    for (const [x, y, colour] of dots) {
      this.pen.fillStyle = colour;
      this.pen.beginPath();
      this.pen.arc(this.xOf(x), this.yOf(y), x === this.cursor ? 6 : 4, 0, 7);
      this.pen.fill();
    }
  }

  marks({ times, text }) {
    const { pen, inner } = this;
    for (const at of times.filter((time) => time >= this.shape.x[0])) {
      pen.setLineDash([4, 3]);
      this.upright(at, palette().warn);
      pen.setLineDash([]);
      pen.fillStyle = palette().warn;
      const x = this.xOf(at);
      const is_late = x > inner.right - pen.measureText(text).width - 6;
      this.write(text, x + (is_late ? -4 : 4), inner.top - 1, is_late ? "right" : "left");
    }
  }
}
