// Makes parts of the page, and writes numbers as texts.

export const percent = (share) => (share === null || share === undefined ? "–" : `${(share * 100).toFixed(1)} %`);
export const number = (n, short) =>
  n === null || n === undefined
    ? "–"
    : n.toLocaleString("en", { maximumFractionDigits: n < 10 ? 2 : n < 100 ? 1 : 0, notation: short ? "compact" : "standard" });
// The tiers answer in microseconds: two digits of whatever is below a millisecond.
export const milliseconds = (ms) =>
  ms !== null && ms !== undefined && ms < 1 ? ms.toLocaleString("en", { maximumSignificantDigits: 2 }) : number(ms);
export const clock = (date) => date.toLocaleTimeString("en-GB");
export const mebibytes = (bytes) => (bytes === null || bytes === undefined ? "–" : `${number(Math.round(bytes / 2 ** 20))} MiB`);

export function element(name, content, className) {
  const made = document.createElement(name);
  if (content !== undefined) made.append(content);
  if (className) made.className = className;
  return made;
}

// Cells are texts or elements, or [text, class]. A row of one cell spans all columns.
export function table(heads, rows) {
  const made = element("table");
  const head = made.createTHead().insertRow();
  for (const text of heads) head.append(element("th", text));
  const body = made.createTBody();
  for (const row of rows) {
    const line = body.insertRow();
    for (const cell of row) line.append(element("td", ...[cell].flat()));
    if (row.length === 1) line.firstChild.colSpan = heads.length;
  }
  return made;
}

export function tile(label, value, className) {
  const made = element("div", undefined, "tile");
  made.append(element("b", value, className), element("span", label));
  return made;
}

// A table may be wider than the page, so its frame scrolls, by the keyboard too.
export function inFrame(content, label) {
  const frame = element("div", undefined, "wide");
  frame.tabIndex = 0;
  frame.setAttribute("role", "region");
  frame.setAttribute("aria-label", label);
  frame.append(content);
  return frame;
}

// Shows what `work` returns, or the sentence that it fails with.
export async function showIn(place, work) {
  try {
    place.replaceChildren(...(await work()));
  } catch (error) {
    place.replaceChildren(element("p", error.message, "bad"));
  }
}
