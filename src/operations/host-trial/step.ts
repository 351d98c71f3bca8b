import type { Clock } from "../../base/clock.ts";
import { describeError, hintOf } from "../../base/errors.ts";
import type { TrialStep } from "../../views/trial-api.ts";

export interface StepContext {
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/** What a step found out, for the steps after it: a value, unless it failed. */
export type Found<Value> =
  | (Words & { readonly level?: "ok" | "skip"; readonly value: Value })
  | (Words & { readonly level: "fail" });

interface Words extends Pick<TrialStep, "message" | "hint" | "relayMs"> {}

/** Tries one thing and tells of it. What goes wrong is told as its failure; throws only when the signal aborts. */
export async function* step<Value>(
  name: string,
  { clock, signal }: StepContext,
  work: () => Promise<Found<Value>> | Found<Value>,
): AsyncGenerator<TrialStep, { readonly value: Value } | undefined> {
  const beganAt = clock.now();
  let found: Found<Value>;
  try {
    signal.throwIfAborted();
    found = await work();
  } catch (error) {
    signal.throwIfAborted();
    found = failureOf(error);
  }
  const { level = "ok", message, hint, relayMs } = found;
  const tookMs = Math.round(clock.now() - beganAt);
  yield {
    ...{ name, level, message, tookMs },
    ...(hint === undefined ? {} : { hint }),
    ...(relayMs === undefined ? {} : { relayMs }),
  };
  return "value" in found ? { value: found.value } : undefined;
}

export function failureOf(error: unknown): Words & { readonly level: "fail" } {
  const hint = hintOf(error);
  return { level: "fail", message: describeError(error), ...(hint === undefined ? {} : { hint }) };
}
