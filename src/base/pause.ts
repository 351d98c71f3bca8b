import type { Clock } from "./clock.ts";

/** Waits for `ms`, or until the signal aborts; a signal that has aborted before cuts nothing short. */
export async function pauseUnless(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return await clock.sleep(ms);
  try {
    await clock.sleep(ms, signal);
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}
