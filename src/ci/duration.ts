const unitMs: Readonly<Record<string, number>> = {
  s: 1_000,
  sec: 1_000,
  second: 1_000,
  m: 60_000,
  min: 60_000,
  mins: 60_000,
  minute: 60_000,
  h: 3_600_000,
  hr: 3_600_000,
  hour: 3_600_000,
  d: 86_400_000,
  day: 86_400_000,
  w: 604_800_000,
  wk: 604_800_000,
  week: 604_800_000,
  mo: 2_592_000_000,
  mos: 2_592_000_000,
  month: 2_592_000_000,
  y: 31_536_000_000,
  yr: 31_536_000_000,
  year: 31_536_000_000,
};

/**
 * GitLab's words for a time (`1 week`, `3 mins 4 sec`, `2h20min`, `42`: seconds) in milliseconds. Undefined for `never`;
 * NaN for what is no time.
 */
export function parseExpireInMs(text: string): number | undefined {
  const compact = text
    .toLowerCase()
    .replaceAll(/\band\b|,/g, " ")
    .trim();
  if (compact === "never") return undefined;
  if (/^\d+$/.test(compact)) return Number(compact) * 1_000;
  if (!/^(\d+(\.\d+)?\s*[a-z]+\s*)+$/.test(compact)) return Number.NaN;
  let sumMs = 0;
  for (const [, value, unit = ""] of compact.matchAll(/(\d+(?:\.\d+)?)\s*([a-z]+)/g))
    sumMs += Number(value) * (unitMs[unit] ?? unitMs[unit.replace(/s$/, "")] ?? Number.NaN);
  return sumMs;
}
