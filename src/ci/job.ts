/** One job of the file, and the jobs of the pipeline that it becomes. */
import type { z } from "zod";
import {
  type CacheDefinition,
  DEFAULT_JOB_TIMEOUT_SECONDS,
  type ImageDefinition,
  type JobDefinition,
  type Notice,
  type ServiceDefinition,
} from "./definition.ts";
import { type CiDocument, type Hash, isHash, mergeDeep, resolveReferences } from "./document.ts";
import { CiFileError, MissingPartError, type Place } from "./errors.ts";
import type { Assembled } from "./include.ts";
import { type Instance, instancesOf } from "./job-names.ts";
import {
  type ImageKeywords,
  JobKeywords,
  jobKeywords,
  jobMakingKeywords,
  type Need,
  RuleKeywords,
  unknownArtifactKeys,
} from "./keywords.ts";
import type { Push, Variables } from "./push.ts";
import { fittingRule, isLetIn } from "./rules.ts";

/** What the file says for all jobs. */
export interface Globals {
  readonly stages: readonly string[];
  readonly variables: Variables;
  readonly defaults: Hash;
  /** What the file says for all jobs and the stand-in does not know: `hooks` … */
  readonly others: Hash;
}

export interface Reading {
  readonly document: Assembled;
  readonly push: Push;
  readonly globals: Globals;
  readonly notices: Notice[];
}

/** A job of the pipeline whose `needs` and `dependencies` still stand as in the file. */
export interface Draft {
  readonly definition: JobDefinition;
  /** Its name in the file. */
  readonly origin: string;
  readonly needs: readonly Need[] | undefined;
  readonly dependencies: readonly string[] | undefined;
}

interface JobOfFile {
  readonly instances: readonly string[];
  /** Those that GitLab adds to the pipeline. */
  readonly drafts: readonly Draft[];
}

/** Undefined for a job that is left out, which `notices` then say. Throws CiFileError. */
export function readJob(reading: Reading, name: string): JobOfFile | undefined {
  const job = wholeJob(reading, name);
  if (!job) return undefined;
  noteUnknown(reading, name, job);
  const { document } = reading;
  const keywords = read(JobKeywords, job, document, [name]);
  const instances = instancesOf(name, keywords.parallel, document.placeOf(name, "parallel"));
  return {
    instances: instances.map((each) => each.name),
    drafts: instances.flatMap((instance) => draftOf(reading, name, keywords, instance) ?? []),
  };
}

/** Where a part that is missing may stand. */
export function perhapsIn({ leftOut: [first = "", ...others] }: Assembled): string {
  const more = others.length > 0 ? ` or ${others.length} more` : "";
  return `which may stand in a file that was left out (${first}${more})`;
}

/** With all that it inherits. Undefined, with a notice, when it cannot be run here. */
function wholeJob(reading: Reading, name: string): Hash | undefined {
  const { document, notices } = reading;
  const place = document.placeOf(name);
  const leave = (reason: string) =>
    void notices.push({ ...place, job: name, message: `“${name}” is left out: ${reason}` });
  try {
    const job = inherited(reading, name, place, reading.globals.defaults);
    const making = jobMakingKeywords.find((key) => key in job);
    if (making) return leave(`the stand-in cannot run “${making}”`);
    if (job["script"] !== undefined) return job;
    if (document.leftOut.length > 0) return leave(`it has no script, ${perhapsIn(document)}`);
  } catch (error) {
    if (!(error instanceof MissingPartError) || document.leftOut.length === 0) throw error;
    return leave(`it needs ${error.part}, ${perhapsIn(document)}`);
  }
  throw new CiFileError(place, `“${name}” has no script`);
}

/** A job with all that it inherits, of `defaults` too. Throws CiFileError, and MissingPartError for a part that is in no file. */
export function inherited(
  { document }: Pick<Reading, "document">,
  name: string,
  place: Place,
  given: Hash,
): Hash {
  const own = extended(document, name, document.root[name] as Hash);
  const { default: wanted = true } = isHash(own["inherit"]) ? own["inherit"] : {};
  const defaults = Object.entries(given).filter(([key]) => isWanted(wanted, key));
  const resolved = resolveReferences(
    { ...Object.fromEntries(defaults), ...own },
    document.root,
    place,
  ) as Hash;
  // A keyword without a value is one that is not there.
  return Object.fromEntries(Object.entries(resolved).filter(([, value]) => value !== null));
}

/** `inherit` takes all, none, or a list. */
function isWanted(wanted: unknown, key: string): boolean {
  return Array.isArray(wanted) ? wanted.includes(key) : wanted !== false;
}

function noteUnknown({ document, notices }: Reading, name: string, job: Hash): void {
  for (const key of Object.keys(job).filter((each) => !(each in jobKeywords)))
    notices.push(leftOut(document.placeOf(name, key), key, name));
  for (const key of unknownArtifactKeys(job["artifacts"]))
    notices.push(leftOut(document.placeOf(name, "artifacts", key), `artifacts: ${key}`, name));
}

export function leftOut(place: Place, what: string, job?: string): Notice {
  const message = `“${what}” is not known to the stand-in and left out`;
  return { ...place, message, ...(job ? { job } : {}) };
}

/** Undefined for a job that GitLab does not add to the pipeline of this push. */
export function draftOf(
  reading: Reading,
  origin: string,
  keywords: JobKeywords,
  instance: Instance,
): Draft | undefined {
  const { document, push, globals, notices } = reading;
  const wanted = keywords.inherit?.variables ?? true;
  const inheritedOnes = Object.entries(globals.variables).filter(([key]) => isWanted(wanted, key));
  const variables = { ...Object.fromEntries(inheritedOnes), ...keywords.variables, ...instance.variables };
  const named = { CI_JOB_NAME: instance.name, CI_JOB_STAGE: keywords.stage ?? "test" };
  const place = document.placeOf(origin, keywords.rules ? "rules" : "only");
  const judging = { push, variables: { ...variables, ...named, ...push.variables }, place };
  let rule: RuleKeywords = {};
  if (keywords.rules) {
    const fitting = fittingRule(keywords.rules, judging);
    if (fitting === undefined || fitting["when"] === "never") return undefined;
    rule = read(RuleKeywords, fitting, document, [origin, "rules"]);
  } else if (!isLetIn(keywords.only, keywords.except, judging)) return undefined;
  const whole = withRule(keywords, rule);
  if (whole.when === "delayed") {
    const message = "“when: delayed” is not waited for: the job starts as soon as it can";
    notices.push({ ...document.placeOf(origin, "when"), job: origin, message });
  }
  return {
    definition: toDefinition(instance.name, whole, { ...variables, ...rule.variables }),
    origin,
    needs: whole.needs,
    dependencies: whole.dependencies,
  };
}

/** What the rule says goes before what the job says. A manual job among `rules` holds up what follows, unlike one without. */
function withRule(keywords: JobKeywords, rule: RuleKeywords): JobKeywords {
  const { when, allow_failure, needs } = rule;
  const whole = { ...keywords };
  if (when && when !== "never") whole.when = when;
  const allowed = allow_failure ?? keywords.allow_failure ?? (keywords.rules ? false : undefined);
  if (allowed !== undefined) whole.allow_failure = allowed;
  if (needs) whole.needs = needs;
  return whole;
}

function toDefinition(name: string, keywords: JobKeywords, variables: Variables): JobDefinition {
  const { artifacts, image, services, when = "on_success", allow_failure: allowed } = keywords;
  return {
    name,
    stage: keywords.stage ?? "test",
    script: [...(keywords.before_script ?? []), ...(keywords.script ?? [])],
    afterScript: keywords.after_script ?? [],
    variables,
    tags: keywords.tags ?? [],
    allowFailure:
      typeof allowed === "object" ? { exitCodes: allowed.exit_codes } : (allowed ?? when === "manual"),
    when: when === "delayed" ? "on_success" : when,
    timeoutSeconds: keywords.timeout ?? DEFAULT_JOB_TIMEOUT_SECONDS,
    retry: keywords.retry ?? { max: 0, when: ["always"] },
    ...(artifacts ? { artifacts: toArtifacts(artifacts) } : {}),
    ...toCaches(keywords.cache),
    image: image && toImage(image),
    services: services?.map(toService),
  };
}

function toArtifacts(given: NonNullable<JobKeywords["artifacts"]>): NonNullable<JobDefinition["artifacts"]> {
  const { name, paths, exclude, untracked, when, expire_in } = given;
  return {
    paths,
    exclude,
    untracked,
    when,
    ...(name === undefined ? {} : { name }),
    ...(expire_in === undefined ? {} : { expireIn: expire_in }),
  };
}

function toCaches(given: JobKeywords["cache"] = []): Pick<JobDefinition, "caches"> {
  return given.length === 0 ? {} : { caches: given.map(toCache) };
}

function toCache(given: NonNullable<JobKeywords["cache"]>[number]): CacheDefinition {
  const { key, paths, untracked, policy, when, unprotect, fallback_keys: fallbackKeys } = given;
  const ofFiles = (files: string[], prefix: string | undefined) => ({ files, ...(prefix ? { prefix } : {}) });
  return {
    ...{ paths, untracked, policy, when, unprotect, fallbackKeys },
    key: typeof key === "string" ? key : ofFiles(key.files, key.prefix),
  };
}

function toImage({ name, entrypoint, pull_policy, docker }: ImageKeywords): ImageDefinition {
  const { platform, user } = docker ?? {};
  return { name, entrypoint, pullPolicy: pull_policy, docker: docker && { platform, user } };
}

function toService(given: NonNullable<JobKeywords["services"]>[number]): ServiceDefinition {
  const { alias, command, variables } = given;
  return { ...toImage(given), alias, command, variables };
}

/** Checks `value` against `schema`; what is wrong is said with the line of the key it stands under. */
export function read<Schema extends z.ZodType>(
  schema: Schema,
  value: unknown,
  document: CiDocument,
  path: string[],
): z.infer<Schema> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const where = [...path, ...(issue?.path ?? []).map(String)];
  throw new CiFileError(document.placeOf(...where), `“${where.join(": ")}” is wrong: ${issue?.message}`);
}

const MAX_DEPTH = 11;

/**
 * The job with everything it inherits by `extends`: mappings are merged, everything else is replaced. Throws CiFileError, and
 * MissingPartError for a parent that is in no file.
 */
function extended(document: CiDocument, name: string, job: Hash, chain: readonly string[] = []): Hash {
  const place = () => document.placeOf(chain[0] ?? name, "extends");
  if (chain.includes(name))
    throw new CiFileError(place(), `“${chain[0]}” extends itself: ${[...chain, name].join(" → ")}`);
  if (chain.length >= MAX_DEPTH)
    throw new CiFileError(place(), `extends goes deeper than ${MAX_DEPTH} levels`);
  const { extends: given, ...own } = job;
  if (given === undefined || given === null) return own;
  const parents = (Array.isArray(given) ? given : [given]).flat(MAX_DEPTH).map(String);
  let merged: Hash = {};
  for (const parent of parents) {
    const base = document.root[parent];
    if (!isHash(base))
      throw new MissingPartError(
        place(),
        `“${name}” extends “${parent}”, which is not in this file`,
        `“${parent}”`,
      );
    merged = mergeDeep(merged, extended(document, parent, base, [...chain, name]));
  }
  return mergeDeep(merged, own);
}
