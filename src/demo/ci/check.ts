import type { JobDefinition, PipelineDefinition } from "./definition.ts";
import type { CiDocument } from "./document.ts";
import { CiFileError } from "./errors.ts";

/** What GitLab refuses although each job is well formed. Throws CiFileError. */
export function checkPipeline(pipeline: PipelineDefinition, document: CiDocument): void {
  const byName = new Map(pipeline.jobs.map((job) => [job.name, job]));
  for (const job of pipeline.jobs) {
    if (!pipeline.stages.includes(job.stage)) {
      const known = pipeline.stages.filter((stage) => !stage.startsWith(".")).join(", ");
      throw new CiFileError(
        document.lineOf(job.name, "stage"),
        `“${job.name}” is in the stage “${job.stage}”, which is none of ${known}`,
      );
    }
    checkNeeds(job, byName, document);
    checkDependencies(job, byName, pipeline.stages, document);
  }
  for (const job of pipeline.jobs) checkCycle(job, byName, document, []);
}

type ByName = ReadonlyMap<string, JobDefinition>;

function checkNeeds(job: JobDefinition, byName: ByName, document: CiDocument): void {
  for (const need of job.needs ?? []) {
    if (byName.has(need.job) || need.optional) continue;
    const line = document.lineOf(job.name, "needs");
    throw new CiFileError(line, `“${job.name}” needs “${need.job}”, which is not in the pipeline`);
  }
}

function checkDependencies(
  job: JobDefinition,
  byName: ByName,
  stages: readonly string[],
  document: CiDocument,
): void {
  for (const name of job.dependencies ?? []) {
    const other = byName.get(name);
    const line = document.lineOf(job.name, "dependencies");
    if (!other)
      throw new CiFileError(line, `“${job.name}” depends on “${name}”, which is not in the pipeline`);
    const isNeeded = job.needs?.some((need) => need.job === name) ?? false;
    if (!isNeeded && stages.indexOf(other.stage) >= stages.indexOf(job.stage))
      throw new CiFileError(line, `“${job.name}” depends on “${name}”, which is not in an earlier stage`);
  }
}

function checkCycle(
  job: JobDefinition,
  byName: ByName,
  document: CiDocument,
  chain: readonly string[],
): void {
  if (chain.includes(job.name)) {
    const line = document.lineOf(job.name, "needs");
    throw new CiFileError(line, `needs go in a circle: ${[...chain, job.name].join(" → ")}`);
  }
  for (const need of job.needs ?? []) {
    const other = byName.get(need.job);
    if (other) checkCycle(other, byName, document, [...chain, job.name]);
  }
}
