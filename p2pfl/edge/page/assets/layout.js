// Where the nodes stand: on a ring in the order of their ids, as the neighbour rules count them,
// with this node on top. Who comes or goes moves the others a little and reorders nobody. When a
// ring gets crowded, it becomes a band of several: the middle stays free for the edges.

const SAMPLES = 720;
const LAYERS = 12;
const DEEPEST = 0.8; // of the way to the middle
const ENOUGH = 24; // pixels between two nodes

const clamped = (x, low, high) => Math.min(Math.max(x, low), high);

// The angles that cut an ellipse into `count` arcs of one length, clockwise from the top.
function even(count, rx, ry) {
  const lengths = [0];
  const at = (i) => [rx * Math.sin(i), -ry * Math.cos(i)];
  const step = (2 * Math.PI) / SAMPLES;
  for (let i = 1; i <= SAMPLES; i += 1) {
    const [x, y] = at(i * step);
    const [px, py] = at((i - 1) * step);
    lengths.push(lengths[i - 1] + Math.hypot(x - px, y - py));
  }
  const angles = [];
  for (let n = 0, i = 0; n < count; n += 1) {
    const wanted = (lengths[SAMPLES] * n) / count;
    while (lengths[i + 1] < wanted) i += 1;
    angles.push((i + (wanted - lengths[i]) / (lengths[i + 1] - lengths[i])) * step);
  }
  return { angles, length: lengths[SAMPLES] };
}

// `count` places in a box with room for labels around them.
// Returns {radius of a node, places: [{x, y, angle}]}; angles are clockwise from the top.
export function places(count, width, height, labels) {
  const [cx, cy] = [width / 2, height / 2];
  if (count === 0) return { radius: 14, places: [] };
  if (count === 1) return { radius: 16, places: [{ x: cx, y: cy, angle: Math.PI }] };
  const aside = clamped(count <= 2 ? width / 4 : labels, 24, width / 3);
  const [rx, ry] = [Math.min(width / 2 - aside, height * 0.9), height / 2 - 42];
  const gap = clamped(ry / 12, 14, 26);
  let best = { free: 0 };
  for (let layers = 1; layers <= LAYERS && best.free < ENOUGH; layers += 1) {
    const inward = (layers - 1) * gap;
    if (inward > Math.min(rx, ry) * DEEPEST) break;
    const slots = Math.ceil(count / layers) * layers; // each layer as full as the others
    const inner = (even(1, rx - inward, ry - inward).length / slots) * layers;
    const free = layers > 1 ? Math.min(inner, gap) : inner;
    if (free > best.free) best = { free, layers, slots, inward };
  }
  const { angles } = even(best.slots, rx - best.inward / 2, ry - best.inward / 2);
  const turn = count === 2 ? Math.PI / 2 : 0;
  const placed = angles.slice(0, count).map((at, place) => {
    const [angle, deep] = [at - turn, (place % best.layers) * gap];
    return { x: cx + (rx - deep) * Math.sin(angle), y: cy - (ry - deep) * Math.cos(angle), angle };
  });
  return { radius: clamped(best.free * 0.34, 4, 15), places: placed };
}

// The outlines of the states around (0, 0), each of about the area of a circle of radius r.
export function outline(shape, r) {
  const s = r * 0.9;
  const d = r * 1.25;
  const t = r * 1.2;
  const circle = (a) => `M${-a} 0A${a} ${a} 0 1 1 ${a} 0A${a} ${a} 0 1 1 ${-a} 0Z`;
  switch (shape) {
    case "square":
      return `M${-s} ${-s}H${s}V${s}H${-s}Z`;
    case "diamond":
      return `M0 ${-d}L${d} 0L0 ${d}L${-d} 0Z`;
    case "up":
      return `M0 ${-t}L${t} ${t * 0.8}H${-t}Z`;
    case "down":
      return `M0 ${t}L${t} ${-t * 0.8}H${-t}Z`;
    case "bar":
      return `M${-d} ${-r * 0.35}H${d}V${r * 0.35}H${-d}Z`;
    case "cross":
      return `M${-s} ${-s}L${s} ${s}M${s} ${-s}L${-s} ${s}`;
    case "ring":
      return circle(r) + circle(r * 0.45);
    case "dot":
      return circle(r * 0.6);
    default:
      return circle(r);
  }
}
