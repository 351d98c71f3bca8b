/** What jobs use of their machines: how a guest's word is taken, and which size is suggested to whoever chose a larger one. */
import type { Size } from "./size.ts";

/** The most that a machine has used so far; what is not known is left out. */
export interface Peaks {
  readonly memoryMib?: number | undefined;
  readonly diskMib?: number | undefined;
}

/** As a guest tells it: what was left of its memory when that was least, and the most that was on its disk. */
export interface ToldUse {
  readonly availableMib?: number | undefined;
  readonly diskMib?: number | undefined;
}

/** Peaks are kept in such parts of the machine's size, so that a guest cannot cause more writes than there are parts. */
const PARTS = 64;

/**
 * A guest may say anything of itself, so what it tells is held to its machine's size. Memory is what the machine has less what was left:
 * what its own kernel takes is part of it.
 */
export function peaksOf(size: Size, { availableMib, diskMib }: ToldUse): Peaks {
  return {
    memoryMib:
      availableMib === undefined ? undefined : inParts(size.memoryMib - availableMib, size.memoryMib),
    diskMib: diskMib === undefined ? undefined : inParts(diskMib, size.diskMib),
  };
}

/** Rounded up to whole parts, between none and all. */
function inParts(usedMib: number, sizeMib: number): number {
  if (sizeMib <= 0) return 0;
  const part = sizeMib / PARTS;
  const parts = Math.min(PARTS, Math.max(0, Math.ceil(usedMib / part)));
  return Math.round(parts * part);
}

/** Fewer jobs than these say little of those to come. */
export const LEAST_MEASURED = 5;
/** What is put on top of the largest peak: the next job may want more than any before. */
const HEADROOM = 1.25;
/** A job that had too little has not shown how much it wants. */
const AFTER_TOO_LITTLE = 1.5;
const STEP_MIB = { fine: 256, coarse: 1_024 };
const FINE_BELOW_MIB = 4_096;

export interface Measured {
  /** What was asked for; undefined where that differs from job to job. */
  readonly askedMib: number | undefined;
  /** The largest of all; null while nothing was told. */
  readonly peakMib: number | null;
  /** How many jobs told. */
  readonly jobs: number;
  /** How many ended because there was too little of it. */
  readonly tooLittle: number;
}

/**
 * The largest peak and a quarter more, in steps of 256 MiB below 4 GiB and of 1 GiB above. Where a job had too little, at least half as much
 * again as was asked for. Null where too few jobs were measured, or not all had the same size.
 */
export function suggestedMib(measured: Measured): number | null {
  const { askedMib, peakMib, jobs, tooLittle } = measured;
  if (askedMib === undefined || peakMib === null || jobs < LEAST_MEASURED) return null;
  const wanted = Math.max(peakMib * HEADROOM, tooLittle > 0 ? askedMib * AFTER_TOO_LITTLE : 0);
  const step = wanted < FINE_BELOW_MIB ? STEP_MIB.fine : STEP_MIB.coarse;
  return Math.max(step, Math.ceil(wanted / step) * step);
}
