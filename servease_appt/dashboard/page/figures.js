// Computes figures from two samples of counters. Nothing here touches the page.

const sum = (numbers) => numbers.reduce((total, n) => total + n, 0);

// Samples, one per slot of `everyS` seconds: every worker takes them of the same totals, so any one will do.
export class Series {
  constructor(keptS) {
    this.keptS = keptS;
    this.samples = [];
  }

  // Returns whether the counters restarted at zero, which happens when the service restarts.
  add(found, everyS) {
    let restarted = false;
    const slot = (sample) => Math.floor(sample.at_s / everyS);
    for (const sample of found) {
      const last = this.samples.at(-1);
      if (last && slot(sample) <= slot(last)) continue;
      if (last && sum(sample.http) < sum(last.http)) {
        this.samples = [];
        restarted = true;
      }
      this.samples.push(sample);
    }
    const newest = this.samples.at(-1)?.at_s ?? 0;
    this.samples = this.samples.filter((sample) => sample.at_s >= newest - this.keptS);
    return restarted;
  }

  // Returns the sample about `backS` seconds before `latest`, or the oldest one.
  before(latest, backS) {
    return this.samples.find((sample) => sample.at_s >= latest.at_s - backS && sample.at_s < latest.at_s) ?? null;
  }
}

// The difference between two samples.
export class Span {
  constructor(from, to, endsS) {
    this.from = from;
    this.to = to;
    this.endsS = endsS;
    this.seconds = to.at_s - from.at_s;
  }

  events(tier, events, entities) {
    const count = (sample) =>
      sum(events.flatMap((event) => entities.map((entity) => sample.events[`${tier}.${event}.${entity}`] ?? 0)));
    return Math.max(0, count(this.to) - count(this.from));
  }

  hitRate(tier, entities) {
    const asked = this.events(tier, ["hit", "miss"], entities);
    return asked ? this.events(tier, ["hit"], entities) / asked : null;
  }

  // The share of lookups that L1 or L2 answered.
  totalHitRate(entities) {
    const asked = this.events("l1", ["hit", "miss"], entities);
    const lacking = this.events("l2", ["miss"], entities);
    return asked ? Math.max(0, 1 - lacking / asked) : null;
  }

  perSecond(count) {
    return this.seconds > 0 ? count / this.seconds : null;
  }

  // `read` picks the buckets of one histogram out of a sample.
  buckets(read) {
    const before = read(this.from);
    return read(this.to).map((n, i) => Math.max(0, n - (before[i] ?? 0)));
  }

  count(read) {
    return sum(this.buckets(read));
  }

  // In milliseconds, interpolated within its bucket; above the last bound it is that bound.
  quantileMs(read, endsS, share) {
    const buckets = this.buckets(read);
    const wanted = share * sum(buckets);
    if (!wanted) return null;
    let below = 0;
    for (let i = 0; i < buckets.length; i += 1) {
      if (buckets[i] && below + buckets[i] >= wanted) {
        const begin = i ? endsS[i - 1] : 0;
        return 1000 * (i < endsS.length ? begin + ((endsS[i] - begin) * (wanted - below)) / buckets[i] : begin);
      }
      below += buckets[i];
    }
    return null;
  }
}
