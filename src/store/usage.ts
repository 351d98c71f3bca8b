/**
 * What jobs have used in a period, by project, pool or tag: one statement, however many jobs there are. Machines count for as long as they
 * were in the period, those of tries that failed included; jobs count when they were here at any time of it.
 */
import { type Kysely, type RawBuilder, sql } from "kysely";
import { isInProject } from "./jobs.ts";
import type { UsageFilter, UsageRow } from "./store.ts";
import type { Tables } from "./tables.ts";

/** Rows as the database gives them: sums of large numbers are texts in some. */
type Raw = { [Column in keyof UsageRow]: Column extends "key" ? string | null : number | string | null };

export async function readUsage(db: Kysely<Tables>, filter: UsageFilter): Promise<UsageRow[]> {
  const { since, until, by } = filter;
  const { rows } = await sql<Raw>`
    with ${by === "tag" ? tagged(await tagsOf(db)) : sql``} spans as (
      select job_id, sum(cpus * ms) as vcpu_ms, sum(memory_mib * ms) as mib_ms from (
        select job_id, cpus, memory_mib,
          (case when gone_at is null or gone_at > ${until} then ${until} else gone_at end)
          - (case when created_at < ${since} then ${since} else created_at end) as ms
        from machines
        where created_at < ${until} and (gone_at is null or gone_at > ${since}) and job_id is not null
      ) as lives group by job_id
    ), active as (
      select ${keyOf(by)} as key, jobs.id as id, state, result, cause, cpus, memory_mib, disk_mib,
        peak_memory_mib, peak_disk_mib, vcpu_ms, mib_ms,
        running_at - claimed_at + coalesce(queued_ms, 0) as wait_ms
      from jobs left join spans on spans.job_id = jobs.id ${by === "tag" ? joinedTags : sql``}
      where claimed_at < ${until} and (finished_at is null or finished_at >= ${since}) ${narrowed(filter)}
    ), ranked as (
      select active.*, count(wait_ms) over (partition by key) as waits,
        row_number() over (partition by key, case when wait_ms is null then 1 else 0 end order by wait_ms) as place
      from active
    )
    select key, count(*) as "jobs",
      sum(case when result = 'success' then 1 else 0 end) as "succeeded",
      sum(case when result = 'failed' then 1 else 0 end) as "failed",
      sum(case when state <> 'finished' then 1 else 0 end) as "unfinished",
      sum(coalesce(vcpu_ms, 0)) as "vcpuMs", sum(coalesce(mib_ms, 0)) as "mibMs",
      count(wait_ms) as "waits", max(wait_ms) as "longestWaitMs",
      ${waitAt(50)} as "medianWaitMs", ${waitAt(95)} as "p95WaitMs",
      min(cpus) as "leastCpus", max(cpus) as "mostCpus",
      min(memory_mib) as "leastMemoryMib", max(memory_mib) as "mostMemoryMib",
      min(disk_mib) as "leastDiskMib", max(disk_mib) as "mostDiskMib",
      count(peak_memory_mib) as "memoryMeasured", max(peak_memory_mib) as "peakMemoryMib",
      count(peak_disk_mib) as "diskMeasured", max(peak_disk_mib) as "peakDiskMib",
      sum(case when cause = 'memory' then 1 else 0 end) as "outOfMemory"
    from ranked group by key order by "vcpuMs" desc, key`.execute(db);
  return rows.map(toUsage);
}

/** Of those jobs that have begun: the wait that so many of a hundred did not exceed. */
function waitAt(percent: number): RawBuilder<number | null> {
  return sql`max(case when place * 100 <= waits * ${percent} + 99 and wait_ms is not null then wait_ms end)`;
}

function keyOf(by: UsageFilter["by"]): RawBuilder<string> {
  return sql.ref(by === "tag" ? "tagged.tag" : `jobs.${by}`);
}

function narrowed({ project, pool }: UsageFilter): RawBuilder<unknown> {
  const ofProject = project === undefined ? sql`` : sql`and ${isInProject(project)}`;
  return pool === undefined ? ofProject : sql`${ofProject} and jobs.pool = ${pool}`;
}

const joinedTags = sql`left join tagged on tagged.pool = jobs.pool`;

/** All tags of runners that were made here, each once. Those of runners with a token of the configuration are GitLab's secret. */
async function tagsOf(db: Kysely<Tables>): Promise<string[]> {
  const rows = await db.selectFrom("runners").select("tags").distinct().execute();
  return [...new Set(rows.flatMap(({ tags }) => JSON.parse(tags) as string[]))];
}

/** Which pools have which tags. A tag is in a list when its text is, quotes included. */
function tagged(tags: readonly string[]): RawBuilder<unknown> {
  const each = tags.map((tag) => sql`(cast(${tag} as text), cast(${JSON.stringify(tag)} as text))`);
  const words =
    each.length > 0 ? sql`values ${sql.join(each)}` : sql`select '' as tag, '' as word where 1 = 0`;
  return sql`words(tag, word) as (${words}), tagged as (
    select distinct runners.pool as pool, words.tag as tag from runners
    join words on replace(runners.tags, words.word, '') <> runners.tags
  ),`;
}

function toUsage(row: Raw): UsageRow {
  const numbers = Object.entries(row).map(([name, value]) => [name, value === null ? null : Number(value)]);
  return { ...(Object.fromEntries(numbers) as unknown as UsageRow), key: row.key };
}
