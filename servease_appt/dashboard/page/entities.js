// Finds an entity in both tiers and invalidates it.

import { clock, element, inFrame, number, showIn, table } from "./html.js";
import { ENTITIES } from "./overview.js";
import { ask } from "./server.js";

const UUID = "([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\\s*$";
const NAMED = new RegExp(`(${ENTITIES.join("|")})[\\s_:]+${UUID}`, "i");
const BARE = new RegExp(`^\\s*${UUID}`, "i");

const at = (id) => document.getElementById(id);

// What the field names: an entity and its id, an id alone, or null.
function given() {
  const named = NAMED.exec(at("entity").value);
  if (named) return { entity: named[1].toLowerCase(), id: named[2].toLowerCase() };
  const bare = BARE.exec(at("entity").value);
  return bare && { id: bare[1].toLowerCase() };
}

function allowInvalidating() {
  at("invalidate").disabled = !given()?.entity;
}

const isHeld = ({ l2, workers }) => l2.there || l2.last_known_copy || l2.known_to_be_absent || workers.some(({ l1 }) => l1);

async function find() {
  allowInvalidating();
  const wanted = given();
  if (!wanted) throw new Error(`Enter a UUID, or one of ${ENTITIES.join(", ")} and then a UUID.`);
  if (wanted.entity) return describe(await ask("explain", wanted));
  const all = await Promise.all(ENTITIES.map((entity) => ask("explain", { entity, id: wanted.id })));
  const held = all.filter(isHeld);
  if (!held.length) return [element("p", `Neither tier holds a value of ${wanted.id}: no ${ENTITIES.join(", no ")}.`)];
  if (held.length === 1) {
    at("entity").value = held[0].key; // so that it can be invalidated
    allowInvalidating();
  }
  return held.flatMap(describe);
}

function describe(found) {
  const parts = [
    found.l2.there ? `${found.l2.bytes} bytes, ${found.l2.left_s === null ? "no TTL" : `${number(found.l2.left_s)} s left`}` : "no value",
    found.l2.last_known_copy && "a stale copy",
    found.l2.known_to_be_absent && "a remembered 404",
    found.l2.being_loaded && "being loaded",
  ].filter(Boolean);
  const rows = found.workers.map(({ worker, after_ms, l1, same_as_l2, last_event }) => [
    worker,
    l1 ? (l1.absent ? "remembered 404" : "a value") : "nothing",
    l1 ? `${number(l1.age_s)} s` : "–",
    l1 ? [l1.trusted ? "yes" : "no", l1.trusted ? "good" : "warn"] : "–",
    same_as_l2 === null ? "–" : [same_as_l2 ? "yes" : "no", same_as_l2 ? "good" : "bad"],
    last_event ? `${last_event.tier} ${last_event.event}, ${clock(new Date(last_event.at_s * 1000))}` : "–",
    `${after_ms.toFixed(1)} ms`,
  ]);
  return [
    element("p", `${found.key} in Redis: ${parts.join(", ")}.`),
    inFrame(table(["worker", "in L1", "age", "trusted", "same as Redis", "last event", "answered in"], rows), `What each worker holds of ${found.key}`),
  ];
}

async function invalidate() {
  const found = await ask("invalidate", given());
  const rows = found.workers.map(({ worker, after_ms }) => [worker, `${after_ms.toFixed(1)} ms`]);
  const missing = found.workers_expected - found.workers.length;
  if (missing > 0) rows.push([[`${missing} more did not answer`, "bad note"]]);
  return [
    element("p", `${found.key}: deleted from Redis in ${number(found.took_ms)} ms. These workers have handled it:`),
    inFrame(table(["worker", "after"], rows), "Workers that have handled the invalidation"),
  ];
}

at("entity").addEventListener("input", allowInvalidating);
at("search").addEventListener("submit", (event) => {
  event.preventDefault();
  showIn(at("found"), find);
});
at("invalidate").addEventListener("click", () => showIn(at("found"), invalidate));
