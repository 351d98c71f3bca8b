import { backoffMs } from "../../base/backoff.ts";
import type { Clock } from "../../base/clock.ts";
import { RegistryError } from "./errors.ts";

const ATTEMPTS = 4;
const pauses = { baseMs: 500, capMs: 30_000 };
/** Nobody waits together with us. */
const noSpread = () => 1;

/** As long as the registry wishes, else ever longer. */
export function pauseAfter(error: RegistryError, failures: number): number {
  return Math.min(pauses.capMs, error.retryAfterMs ?? backoffMs(failures, noSpread, pauses));
}

/** For what may be done twice. */
export async function withRetries<T>(
  { clock, signal }: { readonly clock: Clock; readonly signal?: AbortSignal | undefined },
  act: () => Promise<T>,
): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await act();
    } catch (error) {
      if (!(error instanceof RegistryError) || !error.retryable || attempt >= ATTEMPTS) throw error;
      await clock.sleep(pauseAfter(error, attempt), signal);
    }
  }
}
