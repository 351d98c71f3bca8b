import type { Secret } from "../../base/secret.ts";
import type { Finding } from "../doctor/check.ts";

/** A GitLab that is not configured yet. */
export interface GitLabPlace {
  readonly url: string;
  readonly caFile: string | undefined;
}

export type ScopeName =
  | { readonly kind: "group" | "project"; readonly name: string }
  | { readonly kind: "instance" };

/** A finding about an address. `untrusted`: only its certificate is in the way. */
export type PlaceFinding = Finding & { readonly untrusted?: true };

/**
 * Judges what an operator says about a GitLab, as soon as it is said. Whatever is wrong is a finding; only an aborted signal
 * throws.
 */
export interface SetupChecks {
  /** Whether a GitLab answers there, with a certificate that is trusted. */
  checkPlace(place: GitLabPlace, signal: AbortSignal): Promise<PlaceFinding>;
  /** What the token is, and each thing that it lacks. */
  checkToken(place: GitLabPlace, token: Secret, signal: AbortSignal): Promise<readonly Finding[]>;
  /** Whether it exists, and whether the token's user may make runners there. */
  checkScope(
    place: GitLabPlace,
    token: Secret,
    scope: ScopeName,
    signal: AbortSignal,
  ): Promise<readonly Finding[]>;
}
