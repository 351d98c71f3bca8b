import { describeError } from "../base/errors.ts";
import type { Log } from "../base/log.ts";

/** Gives back one thing that was taken. */
export type Cleanup = () => Promise<unknown> | unknown;

/** Gives everything back, the last first. One that fails does not keep the others. */
export async function cleanUp(cleanups: Cleanup[], log: Log): Promise<void> {
  for (const cleanup of cleanups.splice(0).reverse()) {
    try {
      await cleanup();
    } catch (error) {
      log.warn({ problem: describeError(error) }, "letting go failed");
    }
  }
}
