/** `webhook` of the configuration, and which part of GitLab it says is served: a group, a project, or all of it. */
import { z } from "zod";
import type { Secret } from "../base/secret.ts";
import { MINUTE_MS } from "../base/units.ts";
import {
  DriverName,
  durationMs,
  fitsMachine,
  HostLabels,
  MachineContainers,
  runnerSettingsKeys,
  sizeMib,
} from "../domain/config.ts";
import { EgressConfig } from "../domain/egress.ts";
import type { NamedScope, Scope } from "../gitlab/rest-api.ts";

/** Where one secret comes from: the file's own text, or a file that holds it. */
const inlineSecret = (description: string) =>
  z.string().min(1).optional().meta({ description, secret: true, reload: "live" });
const secretFile = (description: string) => z.string().optional().meta({ description, reload: "live" });

/** A group or project as GitLab's addresses name it, or by its number. */
const pathOrId = () =>
  z.union([
    z
      .string()
      .regex(
        /^[^\s/:][^\s:]*(?<!\/)$/,
        "expected a path such as group/project, without the address before it",
      ),
    z.number().int().min(1).transform(String),
  ]);

const TagRule = z
  .strictObject({
    tag: z.string().min(1).meta({ description: "A tag of the job beside the one that names its size." }),
    image: z.string().optional().meta({ description: "The image that machines of such jobs boot." }),
    pool: z.string().optional().meta({
      description: "The pool whose image, driver, egress, host labels and disk such jobs get.",
    }),
    hostLabels: HostLabels.optional().meta({
      description: "Labels that the host must have; those of all rules whose tag the job has.",
    }),
  })
  .refine((rule) => rule.image === undefined || rule.pool === undefined, {
    message: "give only one of image and pool",
  })
  .refine(({ image, pool, hostLabels = {} }) => image ?? pool ?? Object.keys(hostLabels)[0], {
    message: "give image, pool or hostLabels: the rule says nothing",
  });

const TaggedMachine = z
  .strictObject({
    image: z.string().default("base").meta({ description: "Name or digest of the image machines boot." }),
    driver: DriverName.default("auto").meta({ description: "What runs the machines." }),
    disk: sizeMib().default(20_480).meta({
      description:
        "Scratch disk of each machine; sparse on the host, and counted whole (vm.overcommit.disk).",
    }),
    egress: EgressConfig.prefault("internet").meta({
      description: "What guests may reach beside GitLab; as in pools.",
    }),
    hostLabels: HostLabels.default({}).meta({ description: "Labels that hosts must have; as in pools." }),
    containers: MachineContainers.prefault({}).meta({
      description: "Jobs that name an image or services; as in pools.",
    }),
    concurrency: z
      .number()
      .int()
      .min(1)
      .default(100)
      .meta({ description: "Jobs of one set of tags at one time." }),
    ...runnerSettingsKeys,
  })
  .refine(...fitsMachine);

const RunnersConfig = z.strictObject({
  perJob: z.boolean().default(false).meta({
    description: "One GitLab runner per job, deleted when the job has ended, instead of one per set of tags.",
  }),
  protected: z
    .boolean()
    .default(false)
    .meta({ description: "Runners take jobs of protected branches and tags only." }),
  keepUnused: durationMs().prefault("24h").meta({
    description:
      "How long a runner that no job asks for is kept. GitLab calls jobs stuck for which no runner is online.",
  }),
  most: z.number().int().min(1).max(1_000).default(50).meta({
    description: "Runners that may exist at one time. GitLab.com's free plan allows 50 per group or project.",
  }),
  verifyInterval: durationMs()
    .refine((ms) => ms >= MINUTE_MS && ms <= 90 * MINUTE_MS, "expected a time from 1m to 90m")
    .prefault("20m")
    .meta({
      description:
        "How often GitLab hears of each runner at least, so that it counts as online (GitLab's limit is 2 hours).",
    }),
});

const PendingPollConfig = z.strictObject({
  interval: durationMs().prefault("60s").meta({
    description: "How often the pending jobs of each known project are read without a webhook.",
  }),
  requestsPerMinute: z.number().int().min(1).max(2_000).default(300).meta({
    description:
      "API requests in a minute at most for finding jobs; GitLab's limit for lists of jobs is 600 per user.",
  }),
});

const one = (...given: unknown[]) => given.filter((each) => each !== undefined).length === 1;

/** `webhook`: jobs by tag. Jobs are found by webhook and API, and runners are made for their tags. */
export const WebhookConfig = z
  .strictObject({
    group: pathOrId().optional().meta({ description: "The group (path or id) whose jobs are served." }),
    project: pathOrId()
      .optional()
      .meta({ description: "The one project (path or id) whose jobs are served." }),
    instance: z
      .literal(true)
      .optional()
      .meta({ description: "Serve the whole GitLab; needs an administrator's token." }),
    apiToken: inlineSecret(
      "Access token of GitLab's API, with scope api, or read_api, create_runner and manage_runner.",
    ),
    apiTokenFile: secretFile("A file that holds the API token."),
    signingKey: inlineSecret(
      "The hook's signing token (whsec_…); several, separated by spaces, while it is rotated.",
    ),
    signingKeyFile: secretFile("A file that holds the signing token; several lines while it is rotated."),
    token: inlineSecret(
      "The hook's secret token, for a GitLab older than 19.0; several, separated by spaces.",
    ),
    tokenFile: secretFile("A file that holds the hook's secret token."),
    url: z
      .url({ protocol: /^https?$/ })
      .optional()
      .meta({
        description:
          "The address under which GitLab reaches the webhook listener, such as https://firerunner.example.org/webhook.",
      }),
    projects: z.array(pathOrId()).default([]).meta({
      description: "Projects (path or id) to look at even before their first webhook.",
    }),
    tagPrefix: z
      .string()
      .regex(/^[a-z0-9][a-z0-9_-]*$/i, "a prefix has letters, digits, - and _")
      .default("firecracker")
      .meta({ description: "The word before the size in a job's tag: PREFIX-2cpu-4gb.", reload: "live" }),
    sizes: z
      .strictObject({
        maxCpus: z
          .number()
          .int()
          .min(1)
          .max(255)
          .default(16)
          .meta({ description: "Most CPUs a tag may ask for." }),
        maxMemory: sizeMib().prefault("64GiB").meta({ description: "Most memory a tag may ask for." }),
      })
      .prefault({})
      .meta({ description: "Limits of what tags may ask for.", reload: "live" }),
    rules: z.array(TagRule).default([]).meta({
      description: "What further tags of a job choose; the first that matches counts.",
      reload: "live",
    }),
    unservable: z.enum(["wait", "fail"]).default("wait").meta({
      reload: "live",
      description:
        "What becomes of a job whose tag asks for a machine that cannot be had: it waits on in GitLab, or is claimed and failed with the reason in its log.",
    }),
    machine: TaggedMachine.prefault({}).meta({
      description: "What a tag does not say about a machine.",
      reload: "live",
    }),
    runners: RunnersConfig.prefault({}).meta({ description: "The runners made in GitLab.", reload: "live" }),
    poll: PendingPollConfig.prefault({}).meta({ description: "Finding what webhooks missed." }),
    installation: z
      .string()
      .regex(/^[a-z0-9][a-z0-9.-]{0,62}$/i, "a name has up to 63 letters, digits, . and -")
      .optional()
      .meta({
        description:
          "The name by which runners of this installation are known in GitLab. Default: made from this computer's id and the state directory.",
      }),
  })
  .refine(({ group, project, instance }) => one(group, project, instance), {
    message: "give exactly one of group, project and instance",
  })
  .refine(({ apiToken, apiTokenFile }) => one(apiToken, apiTokenFile), {
    message: "give exactly one of apiToken and apiTokenFile",
  })
  .refine(({ signingKey, signingKeyFile }) => signingKey === undefined || signingKeyFile === undefined, {
    message: "give only one of signingKey and signingKeyFile",
  })
  .refine(({ token, tokenFile }) => token === undefined || tokenFile === undefined, {
    message: "give only one of token and tokenFile",
  })
  // Whose jobs are found and how, and under which name runners are found again, stays for a life.
  .meta({ reload: "restart" });
export type WebhookConfig = z.infer<typeof WebhookConfig>;

/** What the configuration's secrets say, read. */
export interface WebhookSecrets {
  readonly apiToken: Secret;
  /** `whsec_…`; all are accepted, the first is used to set hooks up. */
  readonly signingKeys: readonly Secret[];
  /** Plain secret tokens; all are accepted, the first is used to set hooks up. */
  readonly tokens: readonly Secret[];
}

/** What the configuration says is served, before GitLab was asked for its id. */
export function namedScopeOf({ group, project }: Pick<WebhookConfig, "group" | "project">): NamedScope {
  if (group !== undefined) return { kind: "group", name: group };
  return project === undefined ? { kind: "instance" } : { kind: "project", name: project };
}

/** Asks GitLab once, and again after each failure: whoever needs the scope repeats in his own rhythm. */
export function createScopeSource(find: () => Promise<Scope>): () => Promise<Scope> {
  let asking: Promise<Scope> | undefined;
  return () => {
    asking ??= find().catch((error: unknown) => {
      asking = undefined;
      throw error;
    });
    return asking;
  };
}

/** Whether runners of this scope can have the project's jobs. A project whose path is not known yet belongs to nothing. */
export function belongsTo(scope: Scope, project: { readonly id: number; readonly path: string }): boolean {
  if (scope.kind === "project") return project.id === scope.id;
  if (project.path === "") return false;
  return scope.kind === "instance" || project.path.startsWith(`${scope.path}/`);
}

/** `group example/apps`. For people. */
export function describeScope(scope: Scope): string {
  return scope.kind === "instance" ? "the whole GitLab" : `${scope.kind} ${scope.path}`;
}
