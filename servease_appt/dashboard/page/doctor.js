// Runs the doctor when asked, and shows its findings.

import { clock, element, showIn } from "./html.js";
import { ask } from "./server.js";

const GIVE_UP_MS = 15000; // the service ends within 11 s
const COLORS = { ok: "good", note: "", warning: "warn", problem: "bad" };

const button = document.getElementById("examine");
const place = document.getElementById("findings");

function card({ area, level, says, means, do: cure }) {
  const made = element("li", undefined, "tile");
  const head = element("p", element("b", level, COLORS[level]));
  head.append(` ${area}: ${says}`);
  made.append(head);
  if (means) made.append(element("p", `Means: ${means}`));
  if (cure) made.append(element("p", `Do: ${cure}`));
  return made;
}

async function examine() {
  const report = await ask("doctor", {}, GIVE_UP_MS);
  const bad = report.findings.filter(({ level }) => level === "warning" || level === "problem");
  const list = element("ul", undefined, "findings");
  const order = Object.keys(COLORS).reverse();
  list.append(...[...report.findings].sort((one, other) => order.indexOf(one.level) - order.indexOf(other.level)).map(card));
  const summary = report.healthy ? "All is well" : `${bad.length} finding${bad.length === 1 ? "" : "s"} to act on`;
  return [element("p", `${summary}, at ${clock(new Date())}.`, report.healthy ? "good" : "bad"), list];
}

button.addEventListener("click", async () => {
  button.disabled = true;
  place.replaceChildren(element("p", "Checking Redis, workers, services, PostgreSQL and settings…"));
  await showIn(place, examine);
  button.disabled = false;
});
