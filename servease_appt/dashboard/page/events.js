// Shows the workers' events while somebody watches.

import { clock, element, inFrame, showIn, table } from "./html.js";
import { ask } from "./server.js";

const POLL_MS = 2000;
const SHOWN = 200;
const OVERLAP_S = 5; // the clocks of hosts differ

const button = document.getElementById("watch");
const place = document.getElementById("events");
const shown = new Map();
let watching = false;
let timer = 0;

const newestS = () => Math.max(0, ...[...shown.values()].map(({ at_s }) => at_s));

async function read() {
  const { events } = await ask(`events?since=${Math.max(0, newestS() - OVERLAP_S)}`);
  for (const event of events) shown.set(JSON.stringify(event), event);
  const newest = [...shown].sort(([, one], [, other]) => other.at_s - one.at_s).slice(0, SHOWN);
  shown.clear();
  for (const [key, event] of newest) shown.set(key, event);
  if (!newest.length) return [element("p", "No events yet.")];
  const rows = newest.map(([, { at_s, worker, tier, event, key, why }]) => [clock(new Date(at_s * 1000)), worker, tier, event.replaceAll("_", " "), key, why]);
  const frame = inFrame(table(["time", "worker", "tier", "event", "key", "reason"], rows), "Events, the newest first");
  frame.classList.add("tall", "texts");
  return [frame];
}

async function poll() {
  clearTimeout(timer);
  if (!watching || document.hidden) return;
  await showIn(place, read);
  if (watching) timer = setTimeout(poll, POLL_MS);
}

function watch(on) {
  watching = on;
  button.setAttribute("aria-pressed", String(on));
  button.textContent = on ? "Stop" : "Watch";
  poll();
}

button.addEventListener("click", () => watch(!watching));
document.addEventListener("visibilitychange", poll);
document.addEventListener("refused", () => watch(false));
