import type { Summary } from "./statistics.ts";

export type Unit = "ms" | "MiB" | "MiB/s" | "%" | "per second" | "times" | "deliveries";

/** A bound that the documentation promises, on one number of a row. */
export interface Promised {
  readonly of: "median" | "p90" | "max" | "ratio" | "difference";
  readonly bound: "at most" | "at least";
  readonly value: number;
}

/** One line of a figure: what was measured, and the other thing measured in the same run. */
export interface Row {
  readonly what: string;
  readonly unit: Unit;
  readonly measured: Summary;
  readonly beside?: { readonly what: string; readonly measured: Summary };
  /** `measured` over `beside`, by their medians unless the figure says otherwise. */
  readonly ratio?: number;
  /** `measured` less `beside`, in the row's unit. */
  readonly difference?: number;
  readonly promised?: Promised;
}

/** What a figure gets to work with. */
export interface BenchContext {
  /** A short form: few repetitions, only to show that everything works. */
  readonly quick: boolean;
  progress(text: string): void;
  /** Done in reverse order when the figure has ended, however it ended. */
  defer(cleanUp: () => Promise<unknown> | unknown): void;
}

export interface Figure {
  readonly name: string;
  readonly title: string;
  /** How it is measured, for the reader of the results. */
  readonly about: string;
  /** Boots real machines, and so needs QEMU and an image. */
  readonly machines: boolean;
  readonly limitMs: number;
  /** A program that has to be had by hand: the variable with its path, and what it is. Without it the figure is not run. */
  readonly needs?: { readonly variable: string; readonly what: string };
  measure(context: BenchContext): Promise<readonly Row[]>;
}

/** The number of a row that its promise is about; undefined when the row does not have it. */
function promisedNumber({ promised, measured, ratio, difference }: Row): number | undefined {
  if (promised?.of === "ratio") return ratio;
  if (promised?.of === "difference") return difference;
  return promised && measured[promised.of];
}

/** Whether a row keeps its promise; undefined when it makes none. */
export function isKept(row: Row): boolean | undefined {
  const { promised } = row;
  if (!promised) return undefined;
  const value = promisedNumber(row);
  if (value === undefined) return false;
  return promised.bound === "at most" ? value <= promised.value : value >= promised.value;
}

/** A row with ratio and difference worked out from the medians. */
export function compare(
  row: Omit<Row, "ratio" | "difference" | "beside">,
  what: string,
  other: Summary,
): Row {
  return {
    ...row,
    beside: { what, measured: other },
    ...(other.median === 0 ? {} : { ratio: row.measured.median / other.median }),
    difference: row.measured.median - other.median,
  };
}
