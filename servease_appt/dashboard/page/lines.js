// Draws lines over time as SVG. One crosshair goes over all charts, and each legend shows the values at it.

const SVG = "http://www.w3.org/2000/svg";
const COLORS = "abcd";
const HEIGHT = 144;
const LEFT = 40;
const BOTTOM = 18;
const TOP = 6;

const charts = new Map();
let pointedAtS = null;

const clock = (atS, withSeconds) =>
  new Date(atS * 1000).toLocaleTimeString("en-GB", withSeconds ? {} : { hour: "2-digit", minute: "2-digit" });

function shape(name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

// A round number at or above `value`.
function ceiling(value) {
  const unit = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map((step) => step * unit).find((end) => end >= value * 0.999);
}

function path(points, x, y) {
  let drawn = "";
  let up = true;
  for (const [at, value] of points) {
    if (value === null) up = true;
    else {
      drawn += `${up ? "M" : "L"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
      up = false;
    }
  }
  return drawn;
}

// Samples without a neighbour on either side: no line would show them.
function isolated(points) {
  const empty = (point) => point === undefined || point[1] === null;
  return points.filter((point, i) => !empty(point) && empty(points[i - 1]) && empty(points[i + 1]));
}

// The sample that is nearest to a time; undefined where there is none.
const nearest = (points, atS) =>
  points.reduce((best, point) => (best && Math.abs(best[0] - atS) <= Math.abs(point[0] - atS) ? best : point), undefined);

function pointAt(atS) {
  pointedAtS = atS;
  for (const chart of charts.values()) chart.render();
}

class Chart {
  constructor(place) {
    this.place = place;
    this.hidden = new Set();
    this.picture = shape("svg", { role: "img" });
    this.legend = document.createElement("ul");
    this.legend.className = "legend";
    this.time = document.createElement("li");
    this.buttons = [];
    place.replaceChildren(this.picture, this.legend);
    for (const event of ["pointermove", "pointerdown"]) this.picture.addEventListener(event, (moved) => pointAt(this.timeAt(moved)));
    this.picture.addEventListener("pointerleave", () => pointAt(null));
    place.addEventListener("keydown", (pressed) => this.step(pressed));
  }

  timeAt(moved) {
    const frame = this.picture.getBoundingClientRect();
    const share = (moved.clientX - frame.left - LEFT) / (frame.width - LEFT);
    return this.scale.nowS - (1 - Math.min(1, Math.max(0, share))) * this.scale.spanS;
  }

  // The arrow keys move the crosshair by one sample.
  step(pressed) {
    if (pressed.key === "Escape") return pointAt(null);
    const by = { ArrowLeft: -1, ArrowRight: 1 }[pressed.key];
    const points = this.lines[0].points;
    if (!by || !points.length) return undefined;
    pressed.preventDefault();
    const now = pointedAtS === null ? points.length - 1 : points.indexOf(nearest(points, pointedAtS)) + by;
    return pointAt(points[Math.min(points.length - 1, Math.max(0, now))][0]);
  }

  update(lines, scale) {
    this.lines = lines;
    this.scale = scale;
    if (!this.buttons.length) this.addButtons();
    this.render();
  }

  addButtons() {
    this.buttons = this.lines.map((line, i) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = COLORS[i];
      button.addEventListener("click", () => {
        if (!this.hidden.delete(line.name)) this.hidden.add(line.name);
        this.render();
      });
      const item = document.createElement("li");
      item.append(button);
      this.legend.append(item);
      return button;
    });
    this.legend.append(this.time);
  }

  render() {
    const { nowS, spanS, top, show } = this.scale;
    const width = Math.max(200, this.place.clientWidth);
    const shown = this.lines.filter((line) => !this.hidden.has(line.name));
    const highest = Math.max(0, ...shown.flatMap((line) => line.points.map(([, value]) => value ?? 0)));
    const end = top ?? (highest > 0 ? ceiling(highest) : 1);
    const x = (at) => LEFT + ((at - nowS + spanS) / spanS) * (width - LEFT);
    const y = (value) => HEIGHT - BOTTOM - (Math.min(value, end) / end) * (HEIGHT - BOTTOM - TOP);
    this.picture.replaceChildren();
    this.picture.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this.drawGrid({ width, end, x, y });
    this.lines.forEach((line, i) => {
      if (!this.hidden.has(line.name)) this.drawLine(line, COLORS[i], x, y);
    });
    const pointed = pointedAtS === null ? undefined : nearest(this.lines[0].points, pointedAtS);
    if (pointed) this.drawCrosshair(pointed[0], x, y);
    const texts = this.lines.map((line) => `${line.name} ${show(this.valueOf(line, pointed?.[0]))}`);
    this.buttons.forEach((button, i) => {
      button.textContent = texts[i];
      button.setAttribute("aria-pressed", String(!this.hidden.has(this.lines[i].name)));
    });
    this.time.textContent = pointed ? `at ${clock(pointed[0], true)}` : "";
    this.picture.setAttribute("aria-label", texts.join(", "));
  }

  // At the crosshair, or the last value that is known.
  valueOf(line, atS) {
    const found = atS === undefined ? line.points.findLast(([, value]) => value !== null) : line.points.find(([at]) => at === atS);
    return found?.[1] ?? null;
  }

  drawGrid({ width, end, x, y }) {
    const { nowS, spanS, show } = this.scale;
    for (const part of [0, 0.5, 1]) {
      const height = y(end * part);
      this.picture.append(shape("line", { class: "grid", x1: LEFT, x2: width, y1: height, y2: height }));
      this.picture.append(shape("text", { x: LEFT - 6, y: height + 4, "text-anchor": "end" }, show(end * part, true)));
    }
    const everyS = spanS > 8 * 60 ? 5 * 60 : spanS > 3 * 60 ? 2 * 60 : 60;
    for (let tickS = Math.floor(nowS / everyS) * everyS; tickS >= nowS - spanS; tickS -= everyS) {
      const anchor = x(tickS) > width - 16 ? "end" : "middle";
      this.picture.append(shape("text", { x: x(tickS), y: HEIGHT - 4, "text-anchor": anchor }, clock(tickS)));
    }
  }

  drawLine(line, color, x, y) {
    this.picture.append(shape("path", { class: color, d: path(line.points, x, y) }));
    for (const [at, value] of isolated(line.points)) {
      this.picture.append(shape("circle", { class: color, cx: x(at).toFixed(1), cy: y(value).toFixed(1), r: 2.2 }));
    }
  }

  drawCrosshair(atS, x, y) {
    const across = x(atS).toFixed(1);
    this.picture.append(shape("line", { class: "crosshair", x1: across, x2: across, y1: TOP, y2: HEIGHT - BOTTOM }));
    this.lines.forEach((line, i) => {
      const value = this.valueOf(line, atS);
      if (value !== null && !this.hidden.has(line.name)) {
        this.picture.append(shape("circle", { class: COLORS[i], cx: across, cy: y(value).toFixed(1), r: 3.2 }));
      }
    });
  }
}

// `lines` is a list of {name, points: [[at_s, value or null], …]}, the same names in each call; `top` fixes the
// scale's end.
export function draw(place, lines, scale) {
  if (!charts.has(place)) charts.set(place, new Chart(place));
  charts.get(place).update(lines, scale);
}
