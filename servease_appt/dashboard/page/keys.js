// Lists the keys of values in Redis, a page at a time.

import { element, inFrame, number, showIn, table } from "./html.js";
import { ENTITIES } from "./overview.js";
import { ask } from "./server.js";

const at = (id) => document.getElementById(id);
let shown = new Map(); // by key: SCAN may return a key twice
let next = null;

function keyButton(key) {
  const button = element("button", key, "link");
  button.type = "button";
  button.addEventListener("click", () => {
    at("entity").value = key;
    at("search").requestSubmit();
    at("entity").scrollIntoView({ block: "center" });
  });
  return button;
}

async function read() {
  const asked = new URLSearchParams({ ...(at("of").value && { entity: at("of").value }), ...(next && { cursor: next }) });
  const page = await ask(`keys?${asked}`);
  for (const row of page.rows) shown.set(row.key, row);
  next = page.cursor;
  at("more").hidden = !next;
  const rows = [...shown.values()].map(({ key, left_s }) => [keyButton(key), left_s === null ? ["no end", "warn"] : `${number(left_s)} s`]);
  const frame = inFrame(table(["key", "TTL"], rows), "Keys in Redis");
  frame.classList.add("tall");
  return [element("p", `${number(shown.size)} keys${next ? " so far; there may be more" : ""}.`), ...(rows.length ? [frame] : [])];
}

at("of").append(...ENTITIES.map((entity) => element("option", entity)));
at("list").addEventListener("submit", (event) => {
  event.preventDefault();
  shown = new Map();
  next = null;
  showIn(at("keys"), read);
});
at("more").addEventListener("click", () => showIn(at("keys"), read));
