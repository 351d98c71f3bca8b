import type { Finding } from "../doctor/check.ts";

/** One thing that was done or found on the way, as soon as it is known. After a `fail` comes nothing more. */
export interface Step extends Finding {
  /** A word or two for the first column. */
  readonly name: string;
}
