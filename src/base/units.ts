import { FireRunnerError } from "./errors.ts";

const KIB_BYTES = 1024;
export const MIB_BYTES = 1024 ** 2;
const GIB_BYTES = 1024 ** 3;

export const SECOND_MS = 1_000;
export const MINUTE_MS = 60_000;
export const HOUR_MS = 3_600_000;
export const DAY_MS = 24 * HOUR_MS;
/** Up to here people count in hours: “after 36h0m”. */
const MOST_HOURS_MS = 3 * DAY_MS;

const durationUnits: Readonly<Record<string, number>> = {
  ms: 1,
  s: SECOND_MS,
  m: MINUTE_MS,
  h: HOUR_MS,
  d: DAY_MS,
};

const sizeUnits: Readonly<Record<string, number>> = {
  b: 1,
  kib: KIB_BYTES,
  mib: MIB_BYTES,
  gib: GIB_BYTES,
  tib: 1024 ** 4,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  tb: 1e12,
};

/** `"1h30m"`, `"5s"`, `"250ms"` → milliseconds. Throws `bad_unit` with the accepted forms. */
export function parseDurationMs(text: string): number {
  return sumOfParts(text, durationUnits, "a duration such as 500ms, 30s, 5m, 1h30m or 2d");
}

/** `"4GiB"`, `"512MiB"`, `"1.5GB"` → bytes (whole). Throws `bad_unit` with the accepted forms. */
export function parseSizeBytes(text: string): number {
  return Math.round(sumOfParts(text, sizeUnits, "a size such as 512MiB, 4GiB or 20GB"));
}

function sumOfParts(text: string, units: Readonly<Record<string, number>>, expected: string): number {
  const compact = text.trim().toLowerCase();
  const bad = () => new FireRunnerError("bad_unit", `“${text}” is not ${expected}`);
  if (!/^(\d+(\.\d+)?[a-z]+)+$/.test(compact)) throw bad();
  let sum = 0;
  for (const [, value, unit] of compact.matchAll(/(\d+(?:\.\d+)?)([a-z]+)/g)) {
    const factor = unit !== undefined && Object.hasOwn(units, unit) ? units[unit] : undefined;
    if (factor === undefined) throw bad();
    sum += Number(value) * factor;
  }
  return sum;
}

/** 1536 → `"1.5 GiB"` (argument in MiB). For people. */
export function formatMib(mib: number): string {
  if (mib < 1024) return `${Math.round(mib)} MiB`;
  if (mib < 1024 ** 2) return `${short(mib / 1024)} GiB`;
  return `${short(mib / 1024 ** 2)} TiB`;
}

/** Three digits or so: nobody asks for the tenths of a hundred. */
function short(value: number): number {
  return Number(value.toFixed(value < 100 ? 1 : 0));
}

/** Bytes for people, in binary units: `"91 MiB"`. */
export function formatBytes(bytes: number): string {
  if (bytes < KIB_BYTES) return `${bytes} B`;
  if (bytes < MIB_BYTES) return `${(bytes / KIB_BYTES).toFixed(1)} KiB`;
  return formatMib(bytes / MIB_BYTES);
}

/** 350 → `"350 ms"`, 4200 → `"4.2 s"`, 192000 → `"3m12s"`. For people. */
export function formatDuration(ms: number): string {
  if (ms < SECOND_MS) return `${Math.round(ms)} ms`;
  if (ms < MINUTE_MS) return `${(ms / SECOND_MS).toFixed(1)} s`;
  if (ms < HOUR_MS) return `${Math.floor(ms / MINUTE_MS)}m${Math.floor((ms % MINUTE_MS) / SECOND_MS)}s`;
  if (ms < MOST_HOURS_MS) return `${Math.floor(ms / HOUR_MS)}h${Math.floor((ms % HOUR_MS) / MINUTE_MS)}m`;
  return `${Math.floor(ms / DAY_MS)}d${Math.floor((ms % DAY_MS) / HOUR_MS)}h`;
}
