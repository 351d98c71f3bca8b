/** What a series of samples says. The 90th percentile and the maximum stand beside the median because waits hide there. */
export interface Summary {
  readonly n: number;
  readonly min: number;
  readonly median: number;
  readonly p90: number;
  readonly max: number;
}

/** Throws RangeError for an empty series: there is nothing honest to say about it. */
export function summarize(samples: readonly number[]): Summary {
  return {
    n: samples.length,
    min: quantile(samples, 0),
    median: quantile(samples, 0.5),
    p90: quantile(samples, 0.9),
    max: quantile(samples, 1),
  };
}

/** Between two samples the value is interpolated, as most tools do. */
export function quantile(samples: readonly number[], share: number): number {
  const sorted = samples.toSorted((a, b) => a - b);
  const place = (sorted.length - 1) * share;
  const below = sorted[Math.floor(place)];
  const above = sorted[Math.ceil(place)];
  if (below === undefined || above === undefined) throw new RangeError("no samples, no summary");
  return below + (above - below) * (place - Math.floor(place));
}

/** What was added to each of a series of pairs. */
export function pairedDifferences(with_: readonly number[], without: readonly number[]): number[] {
  if (with_.length !== without.length) throw new RangeError("pairs need two series of one length");
  return with_.map((each, index) => each - (without[index] ?? 0));
}
