/**
 * Every metric: the source of the series that are scraped, of docs/metrics.md, and of the dashboards and rules that are made from it. What a
 * metric is not in here for does not exist: instruments are made from these rows (instruments.ts), and take nothing beyond a label's bound.
 */
import { compatibility } from "./table/compatibility.ts";
import { gitLab } from "./table/gitlab.ts";
import { guests } from "./table/guests.ts";
import { jobs } from "./table/jobs.ts";
import { machines } from "./table/machines.ts";
import { computer, firerunner } from "./table/process.ts";
import type { LabelBound, MetricRow, MetricSection } from "./table/row.ts";

export const metricTable = {
  ...jobs.rows,
  ...machines.rows,
  ...gitLab.rows,
  ...guests.rows,
  ...firerunner.rows,
  ...computer.rows,
  ...compatibility.rows,
} as const;

type Table = typeof metricTable;
export type MetricName = keyof Table;
/** Those of a type, by name. */
export type MetricOf<Type extends MetricRow["type"]> = {
  [Name in MetricName]: Table[Name]["type"] extends Type ? Name : never;
}[MetricName];
/** Counters that are counted elsewhere. */
export type MirroredCounter = {
  [Name in MetricName]: Table[Name] extends { readonly mirrored: true } ? Name : never;
}[MetricName];
/** What the labels of a metric are given as; nothing where it has none. */
export type LabelsOf<Name extends MetricName> = { readonly [Label in keyof Table[Name]["labels"]]: string };

/** In the order in which people read them. */
export const metricSections: readonly MetricSection[] = [
  jobs,
  machines,
  gitLab,
  guests,
  firerunner,
  computer,
  compatibility,
];

/** Rows of the last section are there only on request. */
export const compatibleNames: ReadonlySet<string> = new Set(Object.keys(compatibility.rows));

/** The most series that a metric can have. */
export function mostSeries({ labels, buckets }: MetricRow): number {
  const combinations = Object.values(labels).reduce((product, label) => product * mostValues(label), 1);
  // Every bucket, +Inf, the sum and the count.
  return combinations * (buckets === undefined ? 1 : buckets.length + 3);
}

/** `other` is one more. */
function mostValues(label: LabelBound): number {
  if (label.kind === "fixed") return label.values.length + 1;
  return label.most === 1 ? 1 : label.most + 1;
}
