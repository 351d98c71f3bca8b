import { z } from "zod";
import { isHash } from "./document.ts";
import { parseExpireInMs } from "./duration.ts";

/** What may be said of several jobs at once: lists within lists, which GitLab flattens. */
function listOf<Item extends z.ZodType>(item: Item) {
  return z.preprocess((value) => (Array.isArray(value) ? value.flat(10) : value), z.array(item));
}

/** Scripts may be nested lists (anchors, references); GitLab flattens them. */
const Script = z.union([z.string(), z.array(z.unknown())]).transform((value, context) => {
  const lines = (Array.isArray(value) ? value : [value]).flat(10);
  if (lines.every((line) => typeof line === "string")) return lines as string[];
  context.addIssue({ code: "custom", message: "a script is a list of strings (quote lines that hold “: ”)" });
  return z.NEVER;
});

const Scalar = z.union([z.string(), z.number(), z.boolean()]).transform(String);
const VariableValue = z.union([Scalar, z.null().transform(() => "")]);

/** A value, or `{value, description, options, expand}`, of which the value counts; one that is only described is empty. */
export const VariableMap = z.record(
  z.string(),
  z.union([
    VariableValue,
    z.looseObject({ value: VariableValue.default("") }).transform(({ value }) => value),
  ]),
);

const Seconds = z.union([z.string(), z.number()]).transform((value, context) => {
  const ms = parseExpireInMs(String(value));
  if (ms !== undefined && Number.isFinite(ms) && ms > 0) return Math.round(ms / 1_000);
  context.addIssue({ code: "custom", message: `“${value}” is not a time such as 90s, 30 minutes or 1h 30m` });
  return z.NEVER;
});

/** `matrix`: which of the jobs of a matrix. `elsewhere`: a job of another pipeline or project. */
const Need = z.union([
  z
    .string()
    .transform((job) => ({ job, artifacts: true, optional: false, matrix: undefined, elsewhere: false })),
  z
    .looseObject({
      job: z.string().default(""),
      artifacts: z.boolean().default(true),
      optional: z.boolean().default(false),
      pipeline: z.unknown().optional(),
      project: z.unknown().optional(),
      parallel: z.looseObject({ matrix: z.unknown().optional() }).optional(),
    })
    .transform(({ job, artifacts, optional, pipeline, project, parallel }) => ({
      ...{ job, artifacts, optional, matrix: parallel?.matrix },
      elsewhere: pipeline !== undefined || project !== undefined || job === "",
    })),
]);
export type Need = z.infer<typeof Need>;

/** A list, or what would be its only item. */
function oneOrMore<Item extends z.ZodType>(item: Item) {
  return z.preprocess((value) => (Array.isArray(value) ? value : [value]), z.array(item));
}

const imageKeywords = {
  name: z.string(),
  entrypoint: oneOrMore(z.string()).optional(),
  pull_policy: oneOrMore(z.enum(["always", "if-not-present", "never"])).optional(),
  docker: z.looseObject({ platform: z.string().optional(), user: Scalar.optional() }).optional(),
};

function named(value: unknown): unknown {
  return typeof value === "string" ? { name: value } : value;
}

const Image = z.preprocess(named, z.looseObject(imageKeywords));
export type ImageKeywords = z.infer<typeof Image>;

const Service = z.preprocess(
  named,
  z.looseObject({
    ...imageKeywords,
    alias: z.string().optional(),
    command: oneOrMore(z.string()).optional(),
    variables: VariableMap.optional(),
  }),
);

const Retry = z.union([
  z
    .int()
    .min(0)
    .max(2)
    .transform((max) => ({ max, when: ["always"] })),
  z.looseObject({
    max: z.int().min(0).max(2).default(2),
    when: z.union([z.string().transform((one) => [one]), z.array(z.string())]).default(["always"]),
  }),
]);

const ExitCodes = z.looseObject({
  exit_codes: z.union([z.int().transform((one) => [one]), z.array(z.int())]),
});

const Artifacts = z.looseObject({
  name: z.string().optional(),
  paths: listOf(z.string()).default([]),
  exclude: listOf(z.string()).default([]),
  untracked: z.boolean().default(false),
  when: z.enum(["on_success", "on_failure", "always"]).default("on_success"),
  expire_in: z.string().optional(),
});

const Cache = z.looseObject({
  key: z
    .union([
      Scalar,
      z.looseObject({ files: z.array(z.string()).min(1).max(2), prefix: Scalar.optional() }),
      z.null().transform(() => "default"),
    ])
    .default("default"),
  paths: listOf(z.string()).default([]),
  untracked: z.boolean().default(false),
  policy: z.string().default("pull-push"),
  when: z.enum(["on_success", "on_failure", "always"]).default("on_success"),
  unprotect: z.boolean().default(false),
  fallback_keys: listOf(Scalar).default([]),
});

/** One cache, or a list of at most four; an empty one takes an inherited one away. */
const Caches = z.preprocess(
  (value) => (Array.isArray(value) ? value : isHash(value) && Object.keys(value).length === 0 ? [] : [value]),
  z.array(Cache).max(4),
);

/** Keywords of a job that the stand-in understands. `extends` is worked in before. */
export const jobKeywords = {
  stage: z.string(),
  script: Script,
  before_script: Script,
  after_script: Script,
  variables: VariableMap,
  tags: listOf(Scalar),
  needs: listOf(Need),
  dependencies: listOf(z.string()),
  artifacts: Artifacts,
  cache: Caches,
  allow_failure: z.union([z.boolean(), ExitCodes]),
  when: z.enum(["on_success", "on_failure", "always", "manual", "delayed"]),
  start_in: Seconds,
  rules: z.array(z.unknown()),
  only: z.unknown(),
  except: z.unknown(),
  parallel: z.unknown(),
  inherit: z.looseObject({
    default: z.union([z.boolean(), z.array(z.string())]).default(true),
    variables: z.union([z.boolean(), z.array(z.string())]).default(true),
  }),
  timeout: Seconds,
  retry: Retry,
  image: Image,
  services: listOf(Service),
};

export const JobKeywords = z.object(jobKeywords).partial();
export type JobKeywords = z.infer<typeof JobKeywords>;

/** What `default` may set for all jobs; GitLab also takes some of them at the top of the file. */
export const defaultKeywords = [
  "before_script",
  "after_script",
  "image",
  "services",
  "tags",
  "artifacts",
  "cache",
  "retry",
  "timeout",
];
export const oldGlobalKeywords = ["before_script", "after_script", "image", "services", "cache"];

/** Top-level keys that are no jobs. */
export const globalKeywords = ["stages", "variables", "default", "workflow", ...oldGlobalKeywords];

/** Top-level keys of GitLab that are no jobs and that the stand-in does not know. */
export const unknownGlobalKeywords = ["spec", "pages:deploy", "types"];

/** What a rule may say of the job that it lets in. */
export const RuleKeywords = z.looseObject({
  when: z.enum(["on_success", "on_failure", "always", "manual", "delayed", "never"]).nullish(),
  allow_failure: z.boolean().nullish(),
  variables: VariableMap.nullish(),
  needs: listOf(Need).nullish(),
});
export type RuleKeywords = z.infer<typeof RuleKeywords>;

/** Keywords that make a job something else than a script; without them it would be a different job. */
export const jobMakingKeywords = ["trigger", "run"];

/** Parts of `artifacts` that are left out, by name. */
export function unknownArtifactKeys(value: unknown): string[] {
  const known = Object.keys(Artifacts.shape);
  return isHash(value) ? Object.keys(value).filter((key) => !known.includes(key)) : [];
}
