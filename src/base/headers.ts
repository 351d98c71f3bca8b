/** What headers of requests and answers say. */

/** The one value of a header, or its first. */
export function single(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value[0] : value;
}

/** The wait that `Retry-After` asks for: seconds, or an HTTP date. Negative or 0 for what is no time, or past. */
export function retryAfterMs(value: string | undefined, now: number): number {
  if (value !== undefined && /^\s*\d+\s*$/.test(value)) return Number(value) * 1_000;
  return untilDateMs(value, now);
}

/** The wait until an HTTP date. Negative or 0 for what is none, or past. */
export function untilDateMs(value: string | undefined, now: number): number {
  const at = Date.parse(value ?? "");
  return Number.isNaN(at) ? 0 : at - now;
}
