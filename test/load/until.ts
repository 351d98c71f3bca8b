import { setTimeout as sleep } from "node:timers/promises";

/** Whether it was so within the limit. */
export async function until(
  isTrue: () => boolean | Promise<boolean>,
  { limitMs, signal }: { readonly limitMs: number; readonly signal: AbortSignal },
): Promise<boolean> {
  const deadline = Date.now() + limitMs;
  while (!(await isTrue())) {
    signal.throwIfAborted();
    if (Date.now() > deadline) return false;
    await sleep(50);
  }
  return true;
}
