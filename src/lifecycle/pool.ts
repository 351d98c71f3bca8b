import type { Secret } from "../base/secret.ts";
import type { Egress } from "./config.ts";
import type { Size } from "./size.ts";

/** A named kind of machine, ready for use: defaults filled in, token read, driver decided. */
export interface Pool {
  readonly name: string;
  readonly size: Size;
  readonly image: string;
  readonly driver: string;
  readonly executor: "shell";
  /** Jobs of this pool at one time. */
  readonly concurrency: number;
  readonly egress: Egress;
  /** The token of the GitLab runner whose jobs it serves. Never given to a machine. */
  readonly runnerToken: Secret;
}
