/** What the steps of an installation have in common. */

import type { Clock } from "../../base/clock.ts";
import { describeError, hintOf } from "../../base/errors.ts";
import type { Secret } from "../../base/secret.ts";
import type { GitLabRest, NamedScope, Scope } from "../../gitlab/rest-api.ts";
import type { Finding } from "../doctor/findings.ts";

/** One thing that was done or found, as soon as it is known. After a `fail` comes nothing more. */
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

export type HookScope = Exclude<Scope, { kind: "instance" }>;

export interface HookInstallOptions {
  readonly rest: Pick<
    GitLabRest,
    "tokenFacts" | "findScope" | "accessLevel" | "hooksOf" | "createHook" | "updateHook" | "testHook"
  >;
  readonly scope: NamedScope;
  /** The public server, as GitLab reaches it. */
  readonly url: string;
  /** Those that the hook is to use. */
  readonly signingKey: Secret | undefined;
  readonly token: Secret | undefined;
  /** What the FireRunner of this computer has received since then (epoch ms); undefined when none runs. */
  arrivals(since: number): Promise<readonly { readonly event: string }[] | undefined>;
  readonly clock: Clock;
  readonly signal?: AbortSignal;
}

/** What a step found out, for the steps after it: a value, unless it failed. */
export type Found<Value> =
  | (Omit<Finding, "level"> & { readonly level: "ok" | "warn"; readonly value: Value })
  | (Omit<Finding, "level"> & { readonly level: "fail" });

export async function* step<Value>(
  name: string,
  signal: AbortSignal | undefined,
  work: () => Promise<Found<Value>>,
): AsyncGenerator<Step, Value | undefined> {
  let found: Found<Value>;
  try {
    found = await work();
  } catch (error) {
    signal?.throwIfAborted();
    found = failureOf(error);
  }
  const { level, message, hint } = found;
  yield { name, level, message, ...(hint === undefined ? {} : { hint }) };
  return found.level === "fail" ? undefined : found.value;
}

export function failureOf(error: unknown): Finding & { readonly level: "fail" } {
  const hint = hintOf(error);
  return { level: "fail", message: describeError(error), ...(hint === undefined ? {} : { hint }) };
}
