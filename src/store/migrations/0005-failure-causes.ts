import { type Kysely, sql } from "kysely";

/**
 * What a failure is blamed on (see FailureCause), of jobs and of machines that were stopped for it. Jobs of before get theirs from
 * their reason, as far as it tells.
 */
export async function up(db: Kysely<never>): Promise<void> {
  await db.schema.alterTable("jobs").addColumn("cause", "text").execute();
  await db.schema.alterTable("machines").addColumn("cause", "text").execute();
  await sql`
    update jobs set cause = case
      when reason like 'the runner reported job_execution_timeout%' then 'time-limit'
      when reason like 'the job''s time limit of %' then 'time-limit'
      when reason like 'the job''s log grew beyond %' then 'log-limit'
      when reason like 'the runner reported %' then 'runner'
      when reason like 'no machine %' then 'never-started'
      when reason like 'FireRunner was told to end%' then 'shutdown'
      when reason like 'its host % is gone for good' then 'host-lost'
      else 'machine' end
    where reason is not null and (state = 'failing' or result = 'failed')`.execute(db);
}
