/** Whether what the manager holds grows steadily, from samples of a run whose load is even. Pure. */
import { quantile } from "../../bench/core/statistics.ts";
import type { Sample } from "./manager.ts";

type Measure = Exclude<keyof Sample, "at">;

/** What may be more at the end than at the middle without being a leak. */
interface Allowance {
  readonly measure: Measure;
  readonly name: string;
  readonly unit: string;
  /** Of what it was. */
  readonly share: number;
  readonly fixed: number;
  /** For each job of the time between: what is kept of jobs that have ended, until `history.keep` is over. */
  readonly perJob: number;
}

const allowances: readonly Allowance[] = [
  { measure: "heldMib", name: "memory held", unit: "MiB", share: 0.1, fixed: 3, perJob: 0 },
  { measure: "rssMib", name: "resident memory", unit: "MiB", share: 0.15, fixed: 16, perJob: 0 },
  { measure: "openFiles", name: "open files", unit: "", share: 0.1, fixed: 12, perJob: 0 },
  { measure: "diskMib", name: "disk of the state", unit: "MiB", share: 0, fixed: 8, perJob: 0.032 },
];

/** Fewer say nothing. */
const LEAST_SAMPLES = 12;

/** One measure over a run. Of each third but the first, the median: single peaks are no growth. */
export interface Course {
  readonly name: string;
  readonly unit: string;
  readonly start: number;
  readonly middle: number;
  readonly end: number;
  /** Undefined where there are too few samples to tell. */
  readonly grows: boolean | undefined;
}

/**
 * The first third is left out: there the program warms up. It grows when the last third lies above the middle one by more than the
 * allowance, and the second half of the last third is still above its first half.
 */
export function coursesOf(samples: readonly Sample[], jobsBetween: number): Course[] {
  return allowances.map((allowance) => courseOf(allowance, samples, jobsBetween));
}

function courseOf(allowance: Allowance, samples: readonly Sample[], jobsBetween: number): Course {
  const { name, unit, measure, share, fixed, perJob } = allowance;
  const values = samples.map((sample) => sample[measure]);
  const third = Math.floor(values.length / 3);
  const [first, middle, last] = [
    values.slice(0, third || 1),
    values.slice(third, values.length - third),
    values.slice(values.length - third),
  ].map((part) => (part.length === 0 ? values : part));
  const medians = [first ?? [], middle ?? [], last ?? []].map(median);
  const [, before = 0, after = 0] = medians;
  const half = Math.floor((last ?? []).length / 2);
  const stillRises = median((last ?? []).slice(half)) > median((last ?? []).slice(0, half || 1));
  const allowed = before * share + fixed + perJob * jobsBetween;
  const grows = values.length < LEAST_SAMPLES ? undefined : stillRises && after - before > allowed;
  const [start = 0] = values;
  return { name, unit, start, middle: before, end: values.at(-1) ?? 0, grows };
}

function median(values: readonly number[]): number {
  return values.length === 0 ? 0 : quantile(values, 0.5);
}
