import type { JobDefinition } from "./definition.ts";
import { CiFileError, type Place } from "./errors.ts";

/** Where a keyword of a job of the pipeline stands. */
export type PlaceOf = (job: JobDefinition, keyword: string) => Place;

type ByName = ReadonlyMap<string, JobDefinition>;

/** What GitLab refuses although each job is well formed. Throws CiFileError. */
export function checkPipeline(
  jobs: readonly JobDefinition[],
  stages: readonly string[],
  placeOf: PlaceOf,
): void {
  const byName = new Map(jobs.map((job) => [job.name, job]));
  for (const job of jobs) {
    if (!stages.includes(job.stage)) {
      const known = stages.filter((stage) => !stage.startsWith(".")).join(", ");
      throw new CiFileError(
        placeOf(job, "stage"),
        `“${job.name}” is in the stage “${job.stage}”, which is none of ${known}`,
      );
    }
    checkOrder(job, byName, stages, placeOf);
  }
  checkCycles(jobs, byName, placeOf);
}

/** What a job waits for or takes from may stand in its own stage, but in no later one. */
function checkOrder(job: JobDefinition, byName: ByName, stages: readonly string[], placeOf: PlaceOf): void {
  const isLater = (name: string) => stages.indexOf(byName.get(name)?.stage ?? "") > stages.indexOf(job.stage);
  const need = job.needs?.find((each) => isLater(each.job));
  if (need)
    throw new CiFileError(
      placeOf(job, "needs"),
      `“${job.name}” needs “${need.job}”, which is in a later stage`,
    );
  const dependency = job.dependencies?.find(isLater);
  if (dependency !== undefined)
    throw new CiFileError(
      placeOf(job, "dependencies"),
      `“${job.name}” depends on “${dependency}”, which is in a later stage`,
    );
}

/** Each job is looked at once: there may be thousands with many needs. */
function checkCycles(jobs: readonly JobDefinition[], byName: ByName, placeOf: PlaceOf): void {
  const done = new Set<string>();
  function follow(job: JobDefinition, chain: readonly string[]): void {
    if (chain.includes(job.name)) {
      const circle = [...chain.slice(chain.indexOf(job.name)), job.name].join(" → ");
      throw new CiFileError(placeOf(job, "needs"), `needs go in a circle: ${circle}`);
    }
    if (done.has(job.name)) return;
    for (const need of job.needs ?? []) {
      const other = byName.get(need.job);
      if (other) follow(other, [...chain, job.name]);
    }
    done.add(job.name);
  }
  for (const job of jobs) follow(job, []);
}
