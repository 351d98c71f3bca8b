/** Waits that servers ask for in headers. Negative or 0 for what is no time, or past. */

/** `Retry-After`: seconds, or an HTTP date. */
export function retryAfterMs(value: string | undefined, now: number): number {
  if (value !== undefined && /^\s*\d+\s*$/.test(value)) return Number(value) * 1_000;
  return untilDateMs(value, now);
}

/** An HTTP date. */
export function untilDateMs(value: string | undefined, now: number): number {
  const at = Date.parse(value ?? "");
  return Number.isNaN(at) ? 0 : at - now;
}
