import { z } from "zod";
import type { JobDefinition, Notice, PipelineDefinition } from "./definition.ts";
import { type Hash, isHash, resolveReferences } from "./document.ts";
import { CiFileError, MissingPartError, type Place } from "./errors.ts";
import { type Assembled, assemble, assembleAlone, type ReadFile } from "./include.ts";
import { type Draft, type Globals, leftOut, perhapsIn, type Reading, read, readJob } from "./job.ts";
import { type Asking, type JobNames, resolveDependencies, resolveNeeds } from "./job-names.ts";
import {
  defaultKeywords,
  globalKeywords,
  jobKeywords,
  oldGlobalKeywords,
  unknownGlobalKeywords,
  VariableMap,
} from "./keywords.ts";
import { type Push, plainPush } from "./push.ts";
import { fittingRule } from "./rules.ts";

const DEFAULT_STAGES = ["build", "test", "deploy"];

/**
 * `.gitlab-ci.yml` → the pipeline that GitLab makes of it for a push. Keywords that the stand-in does not know are named in `notices`
 * and left out; a job that cannot be run without them is left out whole. Throws CiFileError for what GitLab would refuse.
 */
export async function loadPipeline(
  text: string,
  push: Push,
  readFile: ReadFile,
): Promise<PipelineDefinition> {
  return pipelineOf(await assemble(text, push, readFile), push);
}

/** The same for one file that stands alone. */
export function parsePipeline(text: string, push = plainPush): PipelineDefinition {
  return pipelineOf(assembleAlone(text, push), push);
}

/** A file that is understood as far as all its jobs have it in common. */
export interface Opened {
  readonly reading: Reading;
  readonly stages: readonly string[];
  /** Whether `workflow: rules` let GitLab make a pipeline for this push. */
  readonly hasPipeline: boolean;
}

/** Throws CiFileError for what GitLab would refuse. */
export function openFile(assembled: Assembled, push: Push): Opened {
  const notices: Notice[] = [...assembled.notices];
  const document = resolvedGlobals(assembled, notices);
  const globals = readGlobals(document, notices);
  const workflow = workflowVariables(document, globals, push);
  const variables = { ...globals.variables, ...workflow };
  return {
    reading: { document, push, globals: { ...globals, variables }, notices },
    stages: [".pre", ...globals.stages, ".post"],
    hasPipeline: workflow !== undefined,
  };
}

function pipelineOf(assembled: Assembled, push: Push): PipelineDefinition {
  const { reading, stages, hasPipeline } = openFile(assembled, push);
  const { document, notices } = reading;
  if (!hasPipeline)
    return {
      stages,
      jobs: [],
      notices,
      whyEmpty: "“workflow: rules” start no pipeline for a push to this branch",
    };
  const { drafts, notStarted, names } = readJobs(reading);
  const jobs = drafts.map((draft) => finished(reading, draft, names));
  const originOf = new Map(drafts.map(({ definition, origin }) => [definition.name, origin]));
  checkPipeline(jobs, stages, (job, keyword) =>
    document.placeOf(originOf.get(job.name) ?? job.name, keyword),
  );
  // GitLab makes no pipeline of nothing but first and last jobs.
  if (jobs.every((job) => [".pre", ".post"].includes(job.stage)))
    return { stages, jobs: [], notices, notStarted, whyEmpty: whyEmpty(notStarted) };
  return { stages, jobs, notices, ...(notStarted.length > 0 ? { notStarted } : {}) };
}

function whyEmpty(notStarted: readonly string[]): string {
  return notStarted.length > 0
    ? "the rules of its jobs start none of them for a push to this branch"
    : "it holds no job that can be run here";
}

/** The global keywords with what their references name. One that names a part of an include that was left out is left out too. */
function resolvedGlobals(document: Assembled, notices: Notice[]): Assembled {
  const keys = Object.keys(document.root).filter((key) => globalKeywords.includes(key));
  const root: Hash = { ...document.root };
  for (const key of keys) {
    const place = document.placeOf(key);
    try {
      root[key] = resolveReferences(root[key], document.root, place);
    } catch (error) {
      if (!(error instanceof MissingPartError) || document.leftOut.length === 0) throw error;
      delete root[key];
      notices.push({
        ...place,
        message: `“${key}” is left out: it needs ${error.part}, ${perhapsIn(document)}`,
      });
    }
  }
  return { ...document, root };
}

function readGlobals(document: Assembled, notices: Notice[]): Globals {
  const { root } = document;
  const given = isHash(root["default"]) ? root["default"] : {};
  for (const key of Object.keys(given).filter((each) => !defaultKeywords.includes(each)))
    notices.push(leftOut(document.placeOf("default", key), `default: ${key}`));
  const olds = oldGlobalKeywords.filter((key) => root[key] !== undefined).map((key) => [key, root[key]]);
  const entries = Object.entries(given);
  const known = entries.filter(([key]) => defaultKeywords.includes(key));
  const others = entries.filter(([key]) => !defaultKeywords.includes(key));
  return {
    stages: read(z.array(z.string()), root["stages"] ?? DEFAULT_STAGES, document, ["stages"]),
    variables: read(jobKeywords.variables, root["variables"] ?? {}, document, ["variables"]),
    defaults: Object.fromEntries([...olds, ...known]),
    others: Object.fromEntries(others),
  };
}

/** Variables that the fitting rule of `workflow` sets; undefined when GitLab makes no pipeline. */
function workflowVariables(
  document: Assembled,
  globals: Globals,
  push: Push,
): Readonly<Record<string, string>> | undefined {
  const { workflow } = document.root;
  if (!isHash(workflow) || workflow["rules"] === undefined || workflow["rules"] === null) return {};
  const place = document.placeOf("workflow", "rules");
  const variables = { ...globals.variables, ...push.variables };
  const rule = fittingRule(workflow["rules"], { push, variables, place });
  if (rule === undefined || rule["when"] === "never") return undefined;
  return read(VariableMap, rule["variables"] ?? {}, document, ["workflow", "rules"]);
}

interface Jobs {
  readonly drafts: readonly Draft[];
  readonly notStarted: readonly string[];
  readonly names: JobNames;
}

function readJobs(reading: Reading): Jobs {
  const drafts: Draft[] = [];
  const instances = new Map<string, readonly string[]>();
  const lost = new Set<string>();
  for (const name of jobNames(reading)) {
    const job = readJob(reading, name);
    if (!job) {
      lost.add(name);
      continue;
    }
    instances.set(name, job.instances);
    drafts.push(...job.drafts);
  }
  const present = new Set(drafts.map(({ definition }) => definition.name));
  const notStarted = [...instances].filter(([, all]) => !all.some((each) => present.has(each)));
  return {
    drafts,
    notStarted: notStarted.map(([name]) => name),
    names: { instances, present, lost, incomplete: reading.document.leftOut.length > 0 },
  };
}

export function jobNames({ document, notices }: Reading): string[] {
  return Object.keys(document.root).filter((key) => {
    if (key.startsWith(".") || globalKeywords.includes(key)) return false;
    if (unknownGlobalKeywords.includes(key)) {
      notices.push(leftOut(document.placeOf(key), key));
      return false;
    }
    if (!isHash(document.root[key]))
      throw new CiFileError(document.placeOf(key), `“${key}” is neither a keyword nor a job`);
    return true;
  });
}

/** With its needs and dependencies. */
function finished({ document, notices }: Reading, draft: Draft, names: JobNames): JobDefinition {
  const { definition, origin, needs, dependencies } = draft;
  const asking = (keyword: string): Asking => {
    const place = document.placeOf(origin, keyword);
    return { job: origin, place, names, note: (message) => notices.push({ ...place, job: origin, message }) };
  };
  return {
    ...definition,
    ...(needs ? { needs: resolveNeeds(needs, asking("needs")) } : {}),
    ...(dependencies ? { dependencies: resolveDependencies(dependencies, asking("dependencies")) } : {}),
  };
}

/** Where a keyword of a job of the pipeline stands. */
type PlaceOf = (job: JobDefinition, keyword: string) => Place;

type ByName = ReadonlyMap<string, JobDefinition>;

/** What GitLab refuses although each job is well formed. Throws CiFileError. */
function checkPipeline(jobs: readonly JobDefinition[], stages: readonly string[], placeOf: PlaceOf): void {
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
