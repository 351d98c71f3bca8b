import { z } from "zod";
import { checkPipeline } from "./check.ts";
import {
  DEFAULT_JOB_TIMEOUT_SECONDS,
  type JobDefinition,
  type Notice,
  type PipelineDefinition,
} from "./definition.ts";
import { type CiDocument, type Hash, isHash, parseCiDocument, resolveReferences } from "./document.ts";
import { CiFileError } from "./errors.ts";
import { extended } from "./extends.ts";
import {
  defaultKeywords,
  globalKeywords,
  JobKeywords,
  jobKeywords,
  jobMakingKeywords,
  oldGlobalKeywords,
  unknownArtifactKeys,
  unknownGlobalKeywords,
} from "./keywords.ts";

const DEFAULT_STAGES = ["build", "test", "deploy"];

/**
 * `.gitlab-ci.yml` → pipeline. Keywords that the stand-in does not know are named in `notices` and left out; a job that
 * cannot be run without them is left out whole. Throws CiFileError for what GitLab would refuse.
 */
export function parsePipeline(text: string): PipelineDefinition {
  const document = parseCiDocument(text);
  const notices: Notice[] = [];
  const globals = readGlobals(document, notices);
  const jobs = jobNames(document, notices).flatMap((name) => readJob(document, name, globals, notices) ?? []);
  const pipeline = { stages: [".pre", ...globals.stages, ".post"], jobs, notices };
  checkPipeline(pipeline, document);
  return pipeline;
}

interface Globals {
  readonly stages: readonly string[];
  readonly variables: Readonly<Record<string, string>>;
  readonly defaults: Hash;
}

function readGlobals(document: CiDocument, notices: Notice[]): Globals {
  const { root } = document;
  const given = isHash(root["default"]) ? root["default"] : {};
  for (const key of Object.keys(given).filter((each) => !defaultKeywords.includes(each)))
    notices.push(leftOut(document.lineOf("default", key), `“default: ${key}”`));
  const olds = oldGlobalKeywords.filter((key) => root[key] !== undefined).map((key) => [key, root[key]]);
  const known = Object.entries(given).filter(([key]) => defaultKeywords.includes(key));
  return {
    stages: read(z.array(z.string()), root["stages"] ?? DEFAULT_STAGES, document, ["stages"]),
    variables: read(jobKeywords.variables, root["variables"] ?? {}, document, ["variables"]),
    defaults: Object.fromEntries([...olds, ...known]),
  };
}

function jobNames(document: CiDocument, notices: Notice[]): string[] {
  return Object.keys(document.root).filter((key) => {
    if (key.startsWith(".") || globalKeywords.includes(key)) return false;
    if (unknownGlobalKeywords.includes(key)) {
      notices.push(leftOut(document.lineOf(key), `“${key}”`));
      return false;
    }
    if (!isHash(document.root[key]))
      throw new CiFileError(document.lineOf(key), `“${key}” is neither a keyword nor a job`);
    return true;
  });
}

function leftOut(line: number, what: string, job?: string): Notice {
  return { line, message: `${what} is not known to the stand-in and left out`, ...(job ? { job } : {}) };
}

function readJob(
  document: CiDocument,
  name: string,
  globals: Globals,
  notices: Notice[],
): JobDefinition | undefined {
  const line = document.lineOf(name);
  const whole = extended(document, name, document.root[name] as Hash);
  const resolved = resolveReferences({ ...globals.defaults, ...whole }, document.root, line) as Hash;
  const making = jobMakingKeywords.find((key) => key in resolved);
  if (making) {
    notices.push({ line, job: name, message: `“${name}” is left out: the stand-in cannot run “${making}”` });
    return undefined;
  }
  noteUnknown(document, name, resolved, notices);
  const keywords = read(JobKeywords, resolved, document, [name]);
  if (!keywords.script) throw new CiFileError(line, `“${name}” has no script`);
  return toDefinition(name, keywords, globals);
}

function noteUnknown(document: CiDocument, name: string, job: Hash, notices: Notice[]): void {
  for (const key of Object.keys(job).filter((each) => !(each in jobKeywords)))
    notices.push(leftOut(document.lineOf(name, key), `“${key}” of “${name}”`, name));
  for (const key of unknownArtifactKeys(job["artifacts"]))
    notices.push(leftOut(document.lineOf(name, "artifacts", key), `“artifacts: ${key}” of “${name}”`, name));
}

function toDefinition(name: string, keywords: JobKeywords, globals: Globals): JobDefinition {
  const { needs, dependencies, artifacts, image, when = "on_success" } = keywords;
  return {
    name,
    stage: keywords.stage ?? "test",
    script: [...(keywords.before_script ?? []), ...(keywords.script ?? [])],
    afterScript: keywords.after_script ?? [],
    variables: { ...globals.variables, ...keywords.variables },
    tags: keywords.tags ?? [],
    allowFailure: toAllowFailure(keywords),
    when,
    timeoutSeconds: keywords.timeout ?? DEFAULT_JOB_TIMEOUT_SECONDS,
    retry: keywords.retry ?? { max: 0, when: ["always"] },
    ...(needs ? { needs } : {}),
    ...(dependencies ? { dependencies } : {}),
    ...(artifacts ? { artifacts: toArtifacts(artifacts) } : {}),
    ...(image ? { image: toImage(image) } : {}),
  };
}

function toAllowFailure({ allow_failure: given, when }: JobKeywords): JobDefinition["allowFailure"] {
  return typeof given === "object" ? { exitCodes: given.exit_codes } : (given ?? when === "manual");
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

function toImage(given: NonNullable<JobKeywords["image"]>): NonNullable<JobDefinition["image"]> {
  const entrypoint = "entrypoint" in given ? given.entrypoint : undefined;
  return { name: given.name, ...(entrypoint ? { entrypoint } : {}) };
}

/** Checks `value` against `schema`; what is wrong is said with the line of the key it stands under. */
function read<Schema extends z.ZodType>(
  schema: Schema,
  value: unknown,
  document: CiDocument,
  path: string[],
): z.infer<Schema> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const where = [...path, ...(issue?.path ?? []).map(String)];
  throw new CiFileError(document.lineOf(...where), `“${where.join(": ")}” is wrong: ${issue?.message}`);
}
