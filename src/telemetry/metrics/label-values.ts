/** What labels hold: never more different values than their row says, whoever makes names up. */
import { isJobPool } from "../../domain/routing.ts";
import type { LabelBound } from "./table/row.ts";

/** What no value of a fixed label is. */
const OTHER = "other";
/** A project may give a job fifty tags of 255 characters. */
const LONGEST_VALUE = 120;

/** Answers the value itself while there is room for it, else what those beyond are counted as. What was let in once stays. */
export type Bounded = (value: string) => string;

export function createBounded(bound: LabelBound): Bounded {
  if (bound.kind === "fixed") {
    const known = new Set(bound.values);
    return (value) => (known.has(value) ? value : OTHER);
  }
  const { most, rest, always } = bound;
  const known = new Set<string>();
  return (value) => {
    if (known.has(value) || always?.test(value)) return value;
    if (known.size >= most || value.length > LONGEST_VALUE) return rest;
    known.add(value);
    return value;
  };
}

/** The value of `pool` for a pool's name: those that are made for one job each are one. */
export function poolLabel(name: string): string {
  return isJobPool(name) ? "job:*" : name;
}
