// Shows the figures of all workers: tiles, charts and tables.

import { Series, Span } from "./figures.js";
import { mebibytes, milliseconds, number, percent, table, tile } from "./html.js";
import { draw } from "./lines.js";

export const ENTITIES = document.body.dataset.entities.split(" ");
const SPAN_S = 15 * 60;
const SHORTEST_SPAN_S = 2 * 60;
const RECENT_S = 60;
const MODES = {
  both: ["both tiers", "good"],
  l2_only: ["L2 only", "warn"],
  l1_only: ["L1 only", "bad"],
  direct: ["no tier", "bad"],
};
const modeName = (mode) => MODES[mode]?.[0] ?? mode;
const modeColor = (mode) => MODES[mode]?.[1] ?? "";

const at = (id) => document.getElementById(id);
const series = new Series(SPAN_S);
let newestS = 0;

// The time of the newest sample that the page has.
export const newest = () => newestS;

function showTiles(data, span) {
  const modes = Object.entries(data.modes).filter(([, n]) => n > 0);
  const open = Object.entries(data.breakers).flatMap(([name, states]) =>
    Object.entries(states).filter(([state, n]) => state !== "closed" && n > 0).map(([state, n]) => `${name}: ${n} ${state.replace("_", " ")}`));
  const all = modes.reduce((n, [, m]) => n + m, 0);
  const degraded = modes.filter(([mode]) => mode !== "both").map(([mode, n]) => `${n}: ${modeName(mode)}`).join(", ");
  const worst = modes.map(([mode]) => modeColor(mode)).find((color) => color !== "good") ?? "good";
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
  // A young service has few samples: they get the whole width.
  const nowS = data.latest.at_s;
  const spanS = Math.min(SPAN_S, Math.max(SHORTEST_SPAN_S, nowS - (spans[0]?.to.at_s ?? nowS)));
  const scale = { nowS, spanS };
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
  const p50AndP95 = (read, ends) => [0.5, 0.95].map((share) => milliseconds(span?.quantileMs(read, ends, share)));
  const tierTimes = (tier, entity) => p50AndP95((sample) => sample.reads[`${tier}.${entity}`], data.ends_s.reads);
  const rows = [];
  for (const entity of ENTITIES) {
    const calls = (sample) => sample.upstream[entity];
    const l2Entries = data.l2_entries ? data.l2_entries[entity] ?? 0 : null;
    rows.push(
      [`L1 ${entity}`, percent(span?.hitRate("l1", [entity])), number(span?.perSecond(span.events("l1", ["hit", "miss"], [entity]))),
        "–", number(l1Entries(entity)), number(total("l1", "eviction", entity)), ...tierTimes("l1", entity)],
      [`L2 ${entity}`, percent(span?.hitRate("l2", [entity])), number(span?.perSecond(span.events("l2", ["hit", "miss"], [entity]))),
        number(span?.perSecond(span.events("l2", ["fill"], [entity]))), number(l2Entries), "–", ...tierTimes("l2", entity)],
      [`service ${entity}`, "–", number(span?.perSecond(span.count(calls))), "–", "–", "–", ...p50AndP95(calls, data.ends_s.upstream)],
    );
  }
  at("tiers").replaceChildren(table(
    ["tier and entity", "hit rate", "lookups/s", "fills/s", "entries", "evicted", "p50 ms", "p95 ms"], rows));
}

const openBreakers = (worker) =>
  Object.entries(worker.breakers).filter(([, state]) => state !== "closed").map(([name, state]) => `${name} ${state.replace("_", " ")}`);

const isWell = (worker) => worker.mode === "both" && !worker.behind && !worker.refusal && !openBreakers(worker).length;

function showWorkers(data) {
  const ofL1 = (worker) => Object.values(worker.l1_entries).reduce((n, m) => n + m, 0);
  // Those that need attention first: among 64 rows nobody finds them otherwise.
  const sorted = [...data.workers].sort((one, other) => isWell(one) - isWell(other));
  const rows = sorted.map((worker) => {
    const open = openBreakers(worker);
    return [
      worker.worker,
      [worker.refusal ? `${modeName(worker.mode)}, refused` : modeName(worker.mode), worker.refusal ? "bad" : modeColor(worker.mode)],
      [open.join(", ") || "closed", open.length ? "bad" : "good"],
      [number(worker.behind), worker.behind ? "warn" : ""], [number(worker.gaps), worker.gaps ? "warn" : ""],
      number(worker.sent), number(worker.heard),
      worker.heard_s_ago === null ? "–" : `${worker.heard_s_ago.toFixed(1)} s ago`,
      number(ofL1(worker)), number(worker.l1_evictions), mebibytes(worker.resident_bytes),
      worker.answered_ms == null ? "–" : `${worker.answered_ms.toFixed(1)} ms`,
      worker.sequence == null ? "–" : String(worker.sequence),  // without separators, which made the table too wide
    ];
  });
  const missing = data.workers_expected - data.workers.length;
  at("workers-note").textContent = data.workers_expected
    ? missing > 0 ? `${missing} more did not answer.` : ""
    : "Redis does not answer: only the worker that serves this page is shown.";
  const ill = data.workers.filter((worker) => !isWell(worker)).length;
  const memory = data.workers.reduce((bytes, worker) => bytes + (worker.resident_bytes ?? 0), 0);
  at("workers-summary").textContent = data.workers_expected
    ? `${data.workers.length} answered, ${ill || "none"} need${ill === 1 ? "s" : ""} attention, ${mebibytes(memory)} together`
    : "";
  at("workers").replaceChildren(table(
    ["worker", "mode", "breakers", "behind", "gaps", "sent", "handled", "Redis answered", "L1 entries", "evicted", "memory", "answered in", "sequence"], rows));
}

function showEndpoints(data) {
  at("endpoints").replaceChildren(table(
    ["endpoint", "hit rate", "L1", "L2", "service", "stale", "unknown"],
    Object.entries(data.endpoints).map(([endpoint, counts]) => [
      endpoint.replaceAll("_", " "), percent(counts.hit_rate),
      ...["l1", "l2", "upstream", "stale", "unknown"].map((source) => number(counts[source] ?? 0)),
    ])));
}

export function show(data) {
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
