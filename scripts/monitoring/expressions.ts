/**
 * What a PromQL expression names, held against the table of metrics. Whether it is PromQL at all is for promtool to say; what it names that does
 * not exist neither Prometheus nor Grafana would say: an alert that never fires, a panel without data.
 */
import type { MetricRow } from "../../src/telemetry/metrics/table/row.ts";
import { metricTable } from "../../src/telemetry/metrics/table.ts";

interface Selector {
  readonly metric: string;
  /** Labels that it compares, with what they are compared with. */
  readonly labels: readonly (readonly [name: string, value: string])[];
}

const table: Readonly<Record<string, MetricRow>> = metricTable;
/** Prometheus' own. */
const everywhere = ["instance", "job"];

const selector = /\b((?:firerunner|gitlab_runner|process)_\w+|firerunner:[\w:]+)(?:\{([^}]*)\})?/g;
const matcher = /(\w+)\s*(?:=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"/g;
const grouping = /\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)/g;

function selectorsIn(expr: string): Selector[] {
  return [...expr.matchAll(selector)].map(([, metric = "", labels = ""]) => ({
    metric,
    labels: [...labels.matchAll(matcher)].map(([, name = "", value = ""]) => [name, value] as const),
  }));
}

/** Labels that it groups or joins by. */
function groupingsIn(expr: string): string[] {
  return [...expr.matchAll(grouping)].flatMap(([, names = ""]) => names.split(/[\s,]+/).filter(Boolean));
}

/** The row of a series: a histogram gives three. */
function rowOf(metric: string): { readonly row: MetricRow; readonly labels: readonly string[] } | undefined {
  const plain = table[metric];
  if (plain && plain.type !== "histogram") return { row: plain, labels: Object.keys(plain.labels) };
  const [, name = "", part] = /^(.*)_(bucket|sum|count)$/.exec(metric) ?? [];
  const histogram = table[name];
  if (histogram?.type !== "histogram") return undefined;
  return { row: histogram, labels: [...Object.keys(histogram.labels), ...(part === "bucket" ? ["le"] : [])] };
}

/** The metrics of the table in it. */
export function metricsIn(expr: string): string[] {
  return selectorsIn(expr).map(({ metric }) => (metric in table ? metric : metric.replace(/_[a-z]+$/, "")));
}

/** What of it does not exist, in words: metrics, labels, values of labels. `recorded`: names that rules make, which have `instance` alone. */
export function unknownIn(expr: string, recorded: readonly string[] = []): string[] {
  const found = selectorsIn(expr);
  const problems = found.flatMap(({ metric, labels }) =>
    recorded.includes(metric) ? [] : unknownOf(metric, labels),
  );
  const labels = new Set(found.flatMap(({ metric }) => rowOf(metric)?.labels ?? []));
  const strange = groupingsIn(expr).filter((name) => !labels.has(name) && !everywhere.includes(name));
  return [...problems, ...strange.map((name) => `no metric of “${expr}” has the label ${name}`)];
}

function unknownOf(metric: string, compared: Selector["labels"]): string[] {
  const known = rowOf(metric);
  if (!known) return [`there is no metric ${metric}`];
  return compared.flatMap(([name, value]) => {
    if (everywhere.includes(name)) return [];
    if (!known.labels.includes(name)) return [`${metric} has no label ${name}`];
    const missing = value.split("|").filter((pattern) => !canMatch(known.row, name, pattern));
    return missing.map((pattern) => `${name} of ${metric} is never ${pattern}`);
  });
}

function canMatch(row: MetricRow, label: string, pattern: string): boolean {
  // A variable of the dashboard.
  if (pattern.includes("$")) return true;
  const expression = new RegExp(`^(?:${pattern})$`);
  if (label === "le") return (row.buckets ?? []).some((bound) => expression.test(String(bound)));
  const bound = row.labels[label];
  return bound?.kind !== "fixed" || bound.values.some((value) => expression.test(value));
}
