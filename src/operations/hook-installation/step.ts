import type { Finding } from "../doctor/check.ts";

/** One thing that was done or found on the way, as soon as it is known. After a `fail` comes nothing more. */
export interface Step extends Finding {
  /** A word or two for the first column. */
  readonly name: string;
}

/** A hook of GitLab's that is to lead to us. */
export interface HookRequest {
  readonly scope:
    | { readonly kind: "group" | "project"; readonly name: string }
    | { readonly kind: "instance" };
  /** The public server, as GitLab reaches it. */
  readonly url: string;
  /** What the FireRunner of this computer has received since then (epoch ms); undefined when none runs. */
  arrivals(since: number): Promise<readonly { readonly event: string }[] | undefined>;
  readonly signal: AbortSignal;
}
