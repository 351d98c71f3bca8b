/** What a row of the table of metrics says, and what its labels may hold: every label has a bound, so that no series is without one. */

/** Labels with the very same bound have the same values, whatever their metric. */
export type LabelBound =
  /** These values, and `other` for whatever else comes up. */
  | { readonly kind: "fixed"; readonly values: readonly string[] }
  /**
   * As many values as there are of these things, and at most so many; those beyond are counted together as `rest`. What fits `always` is let
   * in besides, being few by itself.
   */
  | {
      readonly kind: "open";
      readonly of: string;
      readonly most: number;
      readonly rest: string;
      readonly always?: RegExp;
    };

export interface MetricRow {
  readonly type: "counter" | "gauge" | "histogram";
  /** One sentence; it stands in what is scraped, on the page and over the panels. */
  readonly help: string;
  /** By name. */
  readonly labels: Readonly<Record<string, LabelBound>>;
  /** Of a counter: it is counted elsewhere, and written anew for each scrape. */
  readonly mirrored?: true;
  /** Upper bounds, growing, in the unit of the name; of a histogram. */
  readonly buckets?: readonly number[];
}

/** Metrics that answer one question of an operator. */
export interface MetricSection {
  readonly title: string;
  readonly question: string;
  readonly rows: Readonly<Record<string, MetricRow>>;
}

export function oneOf<const Values extends readonly string[]>(...values: Values) {
  return { kind: "fixed", values } as const satisfies LabelBound;
}

/**
 * A pool of the configuration by its name (which has no colon), and that of a set of tags by its tags (`tags:TAG,TAG`), as long as there are
 * few of them: projects make them up. Pools that are made for one job each are `job:*`.
 */
export const pool = {
  kind: "open",
  of: "pools of the configuration, `job:*` for those of one job each, and sets of tags",
  most: 64,
  rest: "tags:*",
  always: /^(?:[a-z0-9-]{1,31}|job:\*)$/,
} as const satisfies LabelBound;

export const driver = { kind: "open", of: "drivers", most: 8, rest: "other" } as const satisfies LabelBound;

/** What does not change while the process runs; one for each label. */
export function ofProcess() {
  return { kind: "open", of: "this process", most: 1, rest: "other" } as const satisfies LabelBound;
}

/** As `status` names it: `qemu`, `flintlock/metal-1`. */
export const host = { kind: "open", of: "hosts", most: 1000, rest: "other" } as const satisfies LabelBound;
