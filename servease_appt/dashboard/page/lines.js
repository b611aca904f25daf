// Draws lines over time as SVG.

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 144;
const LEFT = 40;
const BOTTOM = 18;
const TOP = 6;

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

// `lines` is a list of {name, points: [[at_s, value or null], …]}; `top` fixes the scale's end.
export function draw(place, lines, { nowS, spanS, top, show }) {
  const width = Math.max(200, place.clientWidth);
  const highest = Math.max(0, ...lines.flatMap((line) => line.points.map(([, value]) => value ?? 0)));
  const end = top ?? (highest > 0 ? ceiling(highest) : 1);
  const x = (at) => LEFT + ((at - nowS + spanS) / spanS) * (width - LEFT);
  const y = (value) => HEIGHT - BOTTOM - (Math.min(value, end) / end) * (HEIGHT - BOTTOM - TOP);
  const now = lines.map((line) => `${line.name} ${show(line.points.findLast(([, value]) => value !== null)?.[1] ?? null)}`);
  const picture = shape("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": now.join(", ") });
  for (const part of [0, 0.5, 1]) {
    const height = y(end * part);
    picture.append(shape("line", { class: "grid", x1: LEFT, x2: width, y1: height, y2: height }));
    picture.append(shape("text", { x: LEFT - 6, y: height + 4, "text-anchor": "end" }, show(end * part, true)));
  }
  for (let minutes = 0; minutes < spanS / 60; minutes += 5) {
    const label = minutes ? `−${minutes} min` : "now";
    const anchor = minutes ? "middle" : "end";
    picture.append(shape("text", { x: x(nowS - minutes * 60), y: HEIGHT - 4, "text-anchor": anchor }, label));
  }
  lines.forEach((line, i) => {
    picture.append(shape("path", { class: "abcd"[i], d: path(line.points, x, y) }));
    for (const [at, value] of isolated(line.points)) {
      picture.append(shape("circle", { class: "abcd"[i], cx: x(at).toFixed(1), cy: y(value).toFixed(1), r: 2.2 }));
    }
  });
  const legend = document.createElement("ul");
  legend.className = "legend";
  now.forEach((text, i) => {
    const item = document.createElement("li");
    item.className = "abcd"[i];
    item.textContent = text;
    legend.append(item);
  });
  place.replaceChildren(picture, legend);
}
