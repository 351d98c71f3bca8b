/** What jobs have used, as people and programs see it: the store's sums in units for people, and the size that is suggested. As in api.ts, times are epoch ms. */
import { z } from "zod";
import { HOUR_MS, MINUTE_MS } from "../base/units.ts";
import { type Measured, suggestedMib } from "../domain/usage.ts";
import type { UsageFilter, UsageRow } from "../store/store.ts";

export const usageKeys = ["project", "pool", "tag"] as const satisfies readonly UsageFilter["by"][];

const nullable = z.number().nullable();
const Range = z.object({ least: z.number(), most: z.number() });
/** All in MiB: what was asked for, the largest that guests have told, of how many jobs, and the size that would do. */
const Measures = z.object({ asked: Range, peak: nullable, jobs: z.number(), suggested: nullable });

/** What the jobs of one project, pool or tag have used. */
const UsageGroup = z.object({
  /** Null for jobs whose tags only GitLab knows. */
  key: z.string().nullable(),
  jobs: z.number(),
  succeeded: z.number(),
  failed: z.number(),
  unfinished: z.number(),
  vcpuMinutes: z.number(),
  memoryGibHours: z.number(),
  /** In GitLab's queue and here, of jobs that have begun; ms. */
  wait: z.object({ jobs: z.number(), median: nullable, p95: nullable, longest: nullable }),
  cpus: Range,
  memory: Measures,
  disk: Measures,
  /** Jobs that ended for want of memory. */
  outOfMemory: z.number(),
});
export type UsageGroup = z.infer<typeof UsageGroup>;

const Usage = z.object({
  by: z.enum(usageKeys),
  since: z.number(),
  until: z.number(),
  /** The most CPU time first. */
  groups: z.array(UsageGroup),
});
export type Usage = z.infer<typeof Usage>;

export interface UsageViews {
  usage(filter: UsageFilter): Promise<Usage>;
}

const GIB_MIB = 1_024;

export function usageOf({ by, since, until }: UsageFilter, rows: readonly UsageRow[]): Usage {
  return { by, since, until, groups: rows.map(groupOf) };
}

function groupOf(row: UsageRow): UsageGroup {
  const { key, jobs, succeeded, failed, unfinished, outOfMemory } = row;
  const memory = { least: row.leastMemoryMib, most: row.mostMemoryMib };
  const disk = { least: row.leastDiskMib, most: row.mostDiskMib };
  return {
    ...{ key, jobs, succeeded, failed, unfinished, outOfMemory },
    vcpuMinutes: rounded(row.vcpuMs / MINUTE_MS),
    memoryGibHours: rounded(row.mibMs / GIB_MIB / HOUR_MS),
    wait: { jobs: row.waits, median: row.medianWaitMs, p95: row.p95WaitMs, longest: row.longestWaitMs },
    cpus: { least: row.leastCpus, most: row.mostCpus },
    memory: measuresOf(memory, {
      ...{ peakMib: row.peakMemoryMib, jobs: row.memoryMeasured, tooLittle: outOfMemory },
    }),
    disk: measuresOf(disk, { peakMib: row.peakDiskMib, jobs: row.diskMeasured, tooLittle: 0 }),
  };
}

function measuresOf(
  asked: z.infer<typeof Range>,
  measured: Omit<Measured, "askedMib">,
): z.infer<typeof Measures> {
  const askedMib = asked.least === asked.most ? asked.most : undefined;
  const { peakMib: peak, jobs } = measured;
  return { asked, peak, jobs, suggested: suggestedMib({ ...measured, askedMib }) };
}

/** Thousandths are enough for what people pay for. */
function rounded(value: number): number {
  return Number(value.toFixed(3));
}
