import type { metricTable } from "../../src/telemetry/metrics/table.ts";

type Table = typeof metricTable;
export type MetricName = keyof Table;
type LabelOf<Name extends MetricName> = keyof Table[Name]["labels"] & string;
type Compared<Name extends MetricName> = { readonly [Label in LabelOf<Name> | "le"]?: string };

/** Of the FireRunners that are chosen at the top of the dashboard: a metric of the table, with what its labels are compared with. */
export function series<Name extends MetricName>(name: Name, labels: Compared<Name> = {}): string {
  return select(name, labels);
}

/** One of the three series of a histogram. */
export function part<Name extends MetricName>(
  name: Name,
  of: "bucket" | "sum" | "count",
  labels: Compared<Name> = {},
): string {
  return select(`${name}_${of}`, labels);
}

function select(metric: string, labels: Readonly<Record<string, string | undefined>>): string {
  const compared = Object.entries({ instance: "$instance", ...labels }).map(
    ([label, value = ""]) => `${label}${isPattern(value) ? "=~" : "="}"${value}"`,
  );
  return `${metric}{${compared.join(",")}}`;
}

/** A variable may stand for several values. */
function isPattern(value: string): boolean {
  return /[|$.*]/.test(value);
}

/** As many an hour, smoothed over what one point of the graph stands for. */
export function perHour(counter: string): string {
  return `rate(${counter}[$__rate_interval]) * 3600`;
}

/** Below which this share of what was measured lies, by these labels. */
export function quantile<Name extends MetricName>(
  share: number,
  name: Name,
  { by = [], labels = {} }: { by?: readonly LabelOf<Name>[]; labels?: Compared<Name> } = {},
): string {
  const bucket = part(name, "bucket", labels);
  return `histogram_quantile(${share}, sum by (${["le", ...by].join(", ")}) (rate(${bucket}[$__rate_interval])))`;
}

/** Failures that are FireRunner's, its hosts' or the network's. */
export const systemReasons = "machine|host-lost|host-disk|never-started|image-fetch|runner";
