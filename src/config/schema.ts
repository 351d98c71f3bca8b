/** The schema of the whole configuration, made of the modules' slices, and what can be asked of a schema. */
import { z } from "zod";
import { ProxySettings } from "../base/proxy/config.ts";
import { CacheConfig } from "../cache/config.ts";
import { ClaimingConfig } from "../claiming/config.ts";
import { ContainersConfig } from "../containers/config.ts";
import { WebhookConfig } from "../discovery/config.ts";
import { Pool } from "../domain/config.ts";
import { GitLabConfig } from "../gitlab/config.ts";
import { GuestsConfig } from "../guest/config.ts";
import { ImagesConfig } from "../image/config.ts";
import { RelaySettings } from "../relay/config.ts";
import { SchedulerConfig, ShutdownConfig } from "../scheduler/config.ts";
import { ApiConfig } from "../server/api/config.ts";
import { HttpConfig } from "../server/config.ts";
import { MetricsConfig } from "../server/metrics/config.ts";
import { HistoryConfig } from "../store/config.ts";
import { LogSettings } from "../telemetry/config.ts";
import { TracesSettings } from "../telemetry/traces/config.ts";
import { VmConfig } from "../vm/config.ts";

const poolName = z
  .string()
  .regex(
    /^[a-z0-9][a-z0-9-]{0,30}$/,
    "a pool's name has up to 31 of a-z, 0-9 and -, and starts with a letter or digit",
  );

/**
 * The whole configuration: nothing but the modules' slices, under the names operators write. In each slice `.meta()` says of a key
 * what it is (`description`), whether it may be shown (`secret`), in what unit people write it, and whether a reload takes it over
 * (`reload`: `live`, or `restart` when it waits for the next start). A key without `reload` has that of the section around it.
 */
export const Settings = z.strictObject({
  gitlab: GitLabConfig.meta({ description: "The GitLab whose jobs are run." }),
  proxy: ProxySettings.prefault({}).meta({
    description: "A company's HTTP proxy between this computer and others (docs/networks.md).",
  }),
  pools: z.record(poolName, Pool).default({}).meta({
    reload: "live",
    description: "The kinds of machine, by name, each with the GitLab runner whose jobs it serves.",
  }),
  webhook: WebhookConfig.optional().meta({
    description: "Jobs by tag: found by webhook and API, each in a machine of the size that its tag names.",
  }),
  http: HttpConfig.prefault({}).meta({ description: "The public server: webhooks and health." }),
  state: z
    .string()
    .refine((path) => path.startsWith("/"), "give an absolute path")
    .refine(
      (path) => path.length <= 70,
      "give a path of at most 70 characters, for the unix sockets below it",
    )
    .optional()
    .meta({
      reload: "restart",
      description:
        "Directory of the store, keys, sockets and machines. Default: /var/lib/firerunner for root, else $XDG_STATE_HOME/firerunner or ~/.local/state/firerunner.",
    }),
  claiming: ClaimingConfig.prefault({}).meta({ description: "How GitLab is asked for jobs." }),
  scheduler: SchedulerConfig.prefault({}).meta({
    description: "How patient FireRunner is with machines and jobs, and how much it does at one time.",
  }),
  shutdown: ShutdownConfig.prefault({}).meta({
    description: "What happens to running jobs when FireRunner is told to end.",
  }),
  guests: GuestsConfig.prefault({}).meta({ description: "What every machine is given." }),
  vm: VmConfig.prefault({}).meta({ description: "What this computer gives to machines." }),
  images: ImagesConfig.prefault({}).meta({ description: "What image build puts into images." }),
  containers: ContainersConfig.prefault({}).meta({
    description: "Images that jobs name (docs/containers.md).",
  }),
  cache: CacheConfig.prefault({}).meta({
    description: "What jobs keep for later ones, “cache:” in .gitlab-ci.yml (docs/cache.md).",
  }),
  relay: RelaySettings.prefault({}).meta({
    description: "What a guest may ask of the relay, and where machines on other hosts find it.",
  }),
  api: ApiConfig.prefault({}).meta({
    description: "What the command line shows and does, over the network (docs/api.md).",
  }),
  history: HistoryConfig.prefault({}).meta({ description: "What is remembered of jobs that have ended." }),
  metrics: MetricsConfig.prefault({}).meta({ description: "What Prometheus asks (docs/metrics.md)." }),
  traces: TracesSettings.optional().meta({
    description: "A trace of each job, for a collector of OpenTelemetry (docs/traces.md).",
  }),
  log: LogSettings.prefault({}).meta({ description: "What is logged, and how." }),
});
export type Settings = z.infer<typeof Settings>;

type Schema = z.core.$ZodType;

/** What a schema says of itself through `.meta()`, wrappers included; the outermost word wins. */
export interface FieldMeta {
  readonly description?: string | undefined;
  /** The value must never be shown. */
  readonly secret?: boolean | undefined;
  /** In which words people write it, where it is not what it is inside. */
  readonly unit?: "duration" | "size" | "egress" | undefined;
  /** What becomes of a change of it on reload; of a section, what becomes of those of its keys that do not say. */
  readonly reload?: ReloadMark | undefined;
}

/** `live`: read anew each time it is used. `restart`: used as it was at the start. */
export type ReloadMark = "live" | "restart";

/** The schema below defaults, optionality and transforms: what the operator writes. */
function core(schema: Schema): Schema {
  const inner = innerOf(schema);
  return inner === undefined ? schema : core(inner);
}

function innerOf(schema: Schema): Schema | undefined {
  const def = schema._zod.def as { type: string; innerType?: Schema; in?: Schema };
  return def.type === "pipe" ? def.in : def.innerType;
}

export function metaOf(schema: Schema): FieldMeta {
  const inner = innerOf(schema);
  return { ...(inner ? metaOf(inner) : {}), ...z.globalRegistry.get(schema) };
}

/** What an operator gets by leaving the field out, in its inner form or in words; undefined when there is no default. */
export function defaultOf(schema: Schema): unknown {
  const def = schema._zod.def as { type: string; defaultValue?: unknown };
  if (def.type === "default" || def.type === "prefault") return def.defaultValue;
  const inner = innerOf(schema);
  return inner === undefined ? undefined : defaultOf(inner);
}

/** True for what may be left out and then is not there at all. */
export function isOptional(schema: Schema): boolean {
  const { type } = schema._zod.def as { type: string };
  if (type === "default" || type === "prefault") return false;
  const inner = innerOf(schema);
  return type === "optional" || (inner !== undefined && isOptional(inner));
}

/** Fields of an object, in the order of the schema; undefined when it is no object with fixed fields. */
export function fieldsOf(schema: Schema): ReadonlyMap<string, Schema> | undefined {
  const plain = core(schema);
  return plain instanceof z.ZodObject ? new Map(Object.entries(plain.shape)) : undefined;
}

/** The schema of a record's values (`pools`: any name); undefined when it is no record. */
export function valuesOf(schema: Schema): Schema | undefined {
  const plain = core(schema);
  return plain instanceof z.ZodRecord ? (plain.valueType as Schema) : undefined;
}

/** The schema of a list's entries; undefined when it is no list. */
function entriesOf(schema: Schema): Schema | undefined {
  const plain = core(schema);
  return plain instanceof z.ZodArray ? (plain.element as Schema) : undefined;
}

/** The forms that a value may have; one where there is no choice. */
export function formsOf(schema: Schema): readonly Schema[] {
  const plain = core(schema);
  return plain instanceof z.ZodUnion ? (plain.options as readonly Schema[]).flatMap(formsOf) : [schema];
}

function stepInto(schema: Schema, key: PropertyKey): Schema | undefined {
  if (typeof key === "number") return entriesOf(schema);
  return fieldsOf(schema)?.get(String(key)) ?? valuesOf(schema);
}

/** The schema at `path`, or undefined when the path leaves what the schema knows. */
export function schemaAt(schema: Schema, path: readonly PropertyKey[]): Schema | undefined {
  let here: Schema | undefined = schema;
  for (const key of path) {
    if (here === undefined) return undefined;
    here = formsOf(here)
      .map((form) => stepInto(form, key))
      .find((each) => each !== undefined);
  }
  return here;
}
