import type { Clock } from "../../base/clock.ts";
import { RegistryError } from "./errors.ts";

const ATTEMPTS = 4;
const PAUSE_MS = 500;
const PAUSE_MAX_MS = 30_000;

/** As long as the registry wishes, else ever longer. */
export function pauseAfter(error: RegistryError, failures: number): number {
  return Math.min(PAUSE_MAX_MS, error.retryAfterMs ?? PAUSE_MS * 2 ** (failures - 1));
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
