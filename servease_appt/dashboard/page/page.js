import { Series, Span } from "./figures.js";
import { draw } from "./lines.js";

const CODE = "servease-cache-code"; // set by token.js
const KEY = "servease-cache-token";
const POLL_MS = 2000;
const GIVE_UP_MS = 5000;
const SPAN_S = 15 * 60;
const RECENT_S = 60;
const ENTITIES = document.body.dataset.entities.split(" ");
const MODES = { both: "good", l2_only: "warn", l1_only: "bad", direct: "bad" };
const NAMED = new RegExp(`(${ENTITIES.join("|")})[\\s_:]+([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\\s*$`, "i");

const at = (id) => document.getElementById(id);
const series = new Series(SPAN_S);
let newestS = 0;
let timer = 0;
let lastContact = null;
let chosen = null;

// Showing

const percent = (share) => (share === null || share === undefined ? "–" : `${(share * 100).toFixed(1)} %`);
const number = (n, short) =>
  n === null || n === undefined
    ? "–"
    : n.toLocaleString("en", { maximumFractionDigits: n < 10 ? 2 : n < 100 ? 1 : 0, notation: short ? "compact" : "standard" });
const clock = (date) => date.toLocaleTimeString("en-GB");

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

// Cells are texts, or [text, class]. A row of one cell spans all columns.
function table(heads, rows) {
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

function tile(label, value, className) {
  const made = element("div", undefined, "tile");
  made.append(element("b", value, className), element("span", label));
  return made;
}

function showTiles(data, span) {
  const modes = Object.entries(data.modes).filter(([, n]) => n > 0);
  const open = Object.entries(data.breakers).flatMap(([name, states]) =>
    Object.entries(states).filter(([state, n]) => state !== "closed" && n > 0).map(([state, n]) => `${name}: ${n} ${state.replace("_", " ")}`));
  const all = modes.reduce((n, [, m]) => n + m, 0);
  const degraded = modes.filter(([mode]) => mode !== "both").map(([mode, n]) => `${n} ${mode}`).join(", ");
  const worst = modes.map(([mode]) => MODES[mode]).find((color) => color !== "good") ?? "good";
  const http = (sample) => sample.http;
  const redis = (sample) => sample.redis;
  at("tiles").replaceChildren(
    tile(`workers healthy${degraded ? ` (${degraded})` : ""}`, `${data.modes.both ?? 0} of ${all}`, worst),
    tile("Breakers", open.join(", ") || "all closed", open.length ? "bad" : "good"),
    tile("Hit rate", percent(span?.totalHitRate(ENTITIES))),
    tile("Lookups per second", number(span?.perSecond(span.events("l1", ["hit", "miss"], ENTITIES)))),
    tile("Requests per second", number(span?.perSecond(span.count(http)))),
    tile("Request p50 / p95, ms", span ? `${number(span.quantileMs(http, data.ends_s.http, 0.5))} / ${number(span.quantileMs(http, data.ends_s.http, 0.95))}` : "–"),
    tile("Redis p50 / p95, ms", span ? `${number(span.quantileMs(redis, data.ends_s.redis, 0.5))} / ${number(span.quantileMs(redis, data.ends_s.redis, 0.95))}` : "–"),
    tile("Server errors per second", number(span?.perSecond(Math.max(0, span.to.errors - span.from.errors))), span && span.to.errors > span.from.errors ? "bad" : ""),
    tile("Stale names per second", number(span?.perSecond(span.events("upstream", ["stale"], ENTITIES)))),
    tile("Invalidations per second", number(span?.perSecond(span.events("l2", ["invalidation"], [...ENTITIES, "-"])))),
  );
}

function showLines(data) {
  const samples = series.samples.concat(series.samples.at(-1)?.at_s < data.latest.at_s - 1 ? [data.latest] : []);
  const spans = samples.slice(1).map((sample, i) => new Span(samples[i], sample, data.ends_s));
  const line = (name, value) => ({ name, points: spans.map((span) => [span.to.at_s, value(span)]) });
  const scale = { nowS: data.latest.at_s, spanS: SPAN_S };
  draw(at("hit-rate"), [
    line("L1", (span) => span.hitRate("l1", ENTITIES)),
    line("L2", (span) => span.hitRate("l2", ENTITIES)),
    line("both tiers", (span) => span.totalHitRate(ENTITIES)),
  ], { ...scale, top: 1, show: (share) => (share === null ? "–" : `${Math.round(share * 100)} %`) });
  draw(at("throughput"), [
    line("requests", (span) => span.perSecond(span.count((sample) => sample.http))),
    line("Redis", (span) => span.perSecond(span.count((sample) => sample.redis))),
    line("service calls", (span) => span.perSecond(ENTITIES.reduce((n, entity) => n + span.count((sample) => sample.upstream[entity]), 0))),
  ], { ...scale, show: number });
  draw(at("times"), [
    line("request p50", (span) => span.quantileMs((sample) => sample.http, data.ends_s.http, 0.5)),
    line("request p95", (span) => span.quantileMs((sample) => sample.http, data.ends_s.http, 0.95)),
    line("Redis p95", (span) => span.quantileMs((sample) => sample.redis, data.ends_s.redis, 0.95)),
  ], { ...scale, show: number });
  draw(at("upstream"), ENTITIES.map((entity) =>
    line(entity, (span) => span.quantileMs((sample) => sample.upstream[entity], data.ends_s.upstream, 0.95)),
  ), { ...scale, show: number });
}

function showTiers(data, span) {
  const l1Entries = (entity) => data.workers.reduce((n, worker) => n + (worker.l1_entries[entity] ?? 0), 0);
  const total = (tier, event, entity) => data.latest.events[`${tier}.${event}.${entity}`] ?? 0;
  const rows = [];
  for (const entity of ENTITIES) {
    const calls = (sample) => sample.upstream[entity];
    const l2Entries = data.l2_entries ? data.l2_entries[entity] ?? 0 : null;
    rows.push(
      [`L1 ${entity}`, percent(span?.hitRate("l1", [entity])), number(span?.perSecond(span.events("l1", ["hit", "miss"], [entity]))),
        "–", number(l1Entries(entity)), number(total("l1", "eviction", entity)), "–", "–"],
      [`L2 ${entity}`, percent(span?.hitRate("l2", [entity])), number(span?.perSecond(span.events("l2", ["hit", "miss"], [entity]))),
        number(span?.perSecond(span.events("l2", ["fill"], [entity]))), number(l2Entries), "–", "–", "–"],
      [`service ${entity}`, "–", number(span?.perSecond(span.count(calls))), "–", "–", "–",
        number(span?.quantileMs(calls, data.ends_s.upstream, 0.5)), number(span?.quantileMs(calls, data.ends_s.upstream, 0.95))],
    );
  }
  at("tiers").replaceChildren(table(
    ["tier and entity", "hit rate", "lookups/s", "fills/s", "entries", "evicted", "p50 ms", "p95 ms"], rows));
}

function showWorkers(data) {
  const rows = data.workers.map((worker) => {
    const open = Object.entries(worker.breakers).filter(([, state]) => state !== "closed").map(([name, state]) => `${name} ${state}`);
    return [
      worker.worker,
      [worker.mode, MODES[worker.mode]],
      [open.join(", ") || "closed", open.length ? "bad" : "good"],
      number(worker.sent), number(worker.heard), [number(worker.gaps), worker.gaps ? "warn" : ""],
      worker.heard_s_ago === null ? "–" : `${worker.heard_s_ago.toFixed(1)} s ago`,
      number(Object.values(worker.l1_entries).reduce((n, m) => n + m, 0)),
      number(worker.l1_evictions),
      worker.answered_ms == null ? "–" : `${worker.answered_ms.toFixed(1)} ms`,
    ];
  });
  const missing = data.workers_expected - data.workers.length;
  if (missing > 0) rows.push([[`${missing} more did not answer`, "bad note"]]);
  if (!data.workers_expected) rows.push([["Redis does not answer: only the worker that serves this page is shown", "bad note"]]);
  at("workers").replaceChildren(table(
    ["worker", "mode", "breakers", "invalidations sent", "handled", "gaps", "last channel answer", "L1 entries", "evicted", "answered in"], rows));
}

function showEndpoints(data) {
  at("endpoints").replaceChildren(table(
    ["endpoint", "hit rate", "L1", "L2", "service", "stale", "unknown"],
    Object.entries(data.endpoints).map(([endpoint, counts]) => [
      endpoint.replaceAll("_", " "), percent(counts.hit_rate),
      ...["l1", "l2", "upstream", "stale", "unknown"].map((source) => number(counts[source] ?? 0)),
    ])));
}

function show(data) {
  if (series.add(data.history, data.every_s)) newestS = 0;
  newestS = Math.max(newestS, ...data.history.map((sample) => sample.at_s));
  const before = series.before(data.latest, RECENT_S);
  const span = before && new Span(before, data.latest, data.ends_s);
  at("shown").hidden = false; // the lines need to know how wide they may be
  showTiles(data, span);
  showLines(data);
  showTiers(data, span);
  showWorkers(data);
  showEndpoints(data);
}

function showContact(problem) {
  const contact = at("contact");
  contact.classList.toggle("lost", Boolean(problem));
  at("shown").classList.toggle("lost", Boolean(problem));
  if (!problem) contact.textContent = `Live, ${clock(lastContact)}`;
  else contact.textContent = lastContact ? `${problem} Last update ${clock(lastContact)}.` : problem;
}

// Asking

class Refused extends Error {}

async function ask(path, body) {
  const token = sessionStorage.getItem(KEY);
  const answer = await fetch(`${document.body.dataset.base}/${path}`, {
    method: body ? "POST" : "GET",
    headers: { ...(token && { Authorization: `Bearer ${token}` }), ...(body && { "Content-Type": "application/json" }) },
    body: body && JSON.stringify(body),
    cache: "no-store",
    signal: AbortSignal.timeout(GIVE_UP_MS),
  });
  if (answer.status === 401) throw new Refused((await answer.json()).detail);
  if (answer.status === 403) throw new Refused("This page needs an admin's token.");
  const said = await answer.json();
  if (!answer.ok) throw new Error(said.detail ?? `Status ${answer.status}`);
  return said;
}

function logOut(reason) {
  sessionStorage.removeItem(KEY);
  at("login").hidden = false;
  showContact(reason);
}

async function poll() {
  clearTimeout(timer);
  try {
    const data = await ask(`data?since=${newestS}`);
    lastContact = new Date();
    show(data);
    showContact(null);
  } catch (error) {
    if (error instanceof Refused) return logOut(error.message);
    showContact("Connection lost.");
  }
  if (!document.hidden) timer = setTimeout(poll, POLL_MS);
}

document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  if (!document.hidden && sessionStorage.getItem(KEY)) poll();
});

// Takes a link from `cache dashboard`, a token, or a whole Authorization header.
at("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  const given = at("token").value.trim();
  at("token").value = "";
  const code = /[#&]code=([\w.-]+)/.exec(given)?.[1];
  try {
    if (code) await exchange(code);
    else sessionStorage.setItem(KEY, given.replace(/^(authorization:\s*)?bearer\s+/i, ""));
  } catch (error) {
    return logOut(error.message);
  }
  at("login").hidden = true;
  poll();
});

// One entity

function choose() {
  const found = NAMED.exec(at("entity").value);
  chosen = found && { entity: found[1].toLowerCase(), id: found[2].toLowerCase() };
  at("invalidate").disabled = !chosen;
  return chosen;
}

async function run(work) {
  const place = at("found");
  if (!choose()) {
    place.replaceChildren(element("p", `Enter one of ${ENTITIES.join(", ")}, then a UUID.`, "warn"));
    return;
  }
  try {
    place.replaceChildren(...(await work(chosen)));
  } catch (error) {
    if (error instanceof Refused) logOut(error.message);
    else place.replaceChildren(element("p", error.message, "bad"));
  }
}

function inFrame(content, label) {
  const frame = element("div", undefined, "wide");
  frame.tabIndex = 0;
  frame.setAttribute("role", "region");
  frame.setAttribute("aria-label", label);
  frame.append(content);
  return frame;
}

async function find(named) {
  const found = await ask("explain", named);
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
    inFrame(table(["worker", "in L1", "age", "trusted", "same as Redis", "last event", "answered in"], rows), "What each worker holds"),
  ];
}

async function invalidate(named) {
  const found = await ask("invalidate", named);
  const rows = found.workers.map(({ worker, after_ms }) => [worker, `${after_ms.toFixed(1)} ms`]);
  const missing = found.workers_expected - found.workers.length;
  if (missing > 0) rows.push([[`${missing} more did not answer`, "bad note"]]);
  return [
    element("p", `${found.key}: deleted from Redis in ${number(found.took_ms)} ms. These workers have handled it:`),
    inFrame(table(["worker", "after"], rows), "Workers that have handled the invalidation"),
  ];
}

at("entity").addEventListener("input", choose);
at("search").addEventListener("submit", (event) => {
  event.preventDefault();
  run(find);
});
at("invalidate").addEventListener("click", () => run(invalidate));

async function exchange(code) {
  sessionStorage.setItem(KEY, (await ask("session", { code })).token);
}

async function begin() {
  const code = sessionStorage.getItem(CODE);
  sessionStorage.removeItem(CODE);
  try {
    if (code) await exchange(code);
  } catch (error) {
    return logOut(error.message);
  }
  if (sessionStorage.getItem(KEY)) poll();
  else logOut("Paste a link or a token to open this page.");
}

begin();
