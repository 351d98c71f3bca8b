import { z } from "zod";
import { MIB_BYTES, parseDurationMs, parseSizeBytes } from "../base/units.ts";
import { driverNames } from "./drivers.ts";
import { EgressConfig } from "./egress.ts";
import type { RunnerSettings } from "./pool.ts";

/** A duration in people's words (`30s`, `1h30m`), milliseconds inside. */
export function durationMs(): z.ZodType<number, string> {
  return z
    .string()
    .transform((text, context) => convert(() => parseDurationMs(text), context))
    .meta({ unit: "duration" });
}

/** A size in people's words (`4GiB`), whole MiB inside. */
export function sizeMib(): z.ZodType<number, string> {
  return z
    .string()
    .transform((text, context) => convert(() => Math.floor(parseSizeBytes(text) / MIB_BYTES), context))
    .meta({ unit: "size" });
}

function convert(parse: () => number, context: z.RefinementCtx): number {
  try {
    return parse();
  } catch (error) {
    context.addIssue({ code: "custom", message: (error as Error).message });
    return z.NEVER;
  }
}

/** What a host gives away of its CPUs. */
export const CpuOvercommit = z
  .number()
  .min(0.1)
  .max(32)
  .default(2)
  .meta({ description: "Virtual CPUs that may be given away for each CPU of the host." });

const label = z.string().regex(/^[a-z0-9]([a-z0-9._-]{0,62})$/i, "expected letters, digits, ., _ and -");

/** Labels of hosts, and what pools and rules ask of them. */
export const HostLabels = z.record(label, label.meta({ description: "A label's value." }));

/** What runs the machines; `auto` takes the best that this computer can. */
export const DriverName = z.enum(["auto", ...driverNames]);

const imageName = z
  .string()
  .regex(/^[a-z0-9[][^\s$]{0,300}$/i, "expected the name of a container image, without variables");

/** With its host in full, so that no pattern opens another registry than it says. */
const allowedImage = z
  .string()
  .regex(
    /^(?:localhost|(?=[^/]*[.:])[a-z0-9[][a-z0-9.:[\]-]*)\/(?:[a-z0-9._/-]*[a-z0-9]|(?:[a-z0-9._/-]*\/)?\*)$/,
    "expected HOST/NAME, or HOST/PATH/* for all below it, with the host in full (docker.io/library/node)",
  );

/** `containers` of pools and of `webhook.machine`: what becomes of jobs that name an image or services. */
export const MachineContainers = z
  .strictObject({
    enabled: z.boolean().optional().meta({
      description:
        "Whether jobs that name an image or services run in containers; false: such a job fails, with the reason in its log. Default: where the image can (variant containers), and otherwise what they name is ignored.",
    }),
    ignore: z.boolean().default(false).meta({
      description:
        "Run jobs in the machine's own system, whatever image and services they name; their logs say so.",
    }),
    defaultImage: imageName
      .default("debian:13-slim")
      .meta({ description: "The image of jobs that name services and no image." }),
    privileged: z.boolean().default(true).meta({
      description:
        "Containers of jobs have all rights in their machine, as docker:dind needs them; the machine is what holds a job.",
    }),
    engine: z.enum(["podman", "docker"]).default("podman").meta({
      description:
        "What answers at /var/run/docker.sock: podman, or Docker's own engine for what podman cannot, such as BuildKit (an image of the variant docker). Job containers run on podman either way.",
    }),
    socket: z.boolean().default(false).meta({
      description:
        "Containers of jobs and services have the engine's socket at /var/run/docker.sock, to build and run with.",
    }),
    allow: z
      .array(allowedImage.meta({ description: "HOST/NAME, or HOST/PATH/* for all below it." }))
      .default([])
      .meta({
        description:
          "Images that jobs may have with FireRunner's own login (containers.registries), from wherever their registry is. Others need the job's own login, or none.",
      }),
    pullDeadline: durationMs().prefault("10m").meta({
      description:
        "Longest time until all images of a job are here. It costs the job none of its attempts, nor of scheduler.startLimit.",
    }),
  })
  .refine(({ enabled, ignore }) => !(enabled === true && ignore), {
    message: "enabled and ignore cannot both be true",
  });

const MOST_SETTINGS_BYTES = 16 * 1024;

const script = z
  .string()
  .min(1)
  .regex(/^[^\0\r]*$/, "expected text with plain line ends")
  .optional();

/** What the runner of each job is told, by the names of gitlab-runner's configuration. Keys of pools and of `webhook.machine`. */
export const runnerSettingsKeys = {
  environment: z
    .array(
      z
        .string()
        .regex(/^[A-Za-z_][A-Za-z0-9_]*=[^\0\r\n]*$/, "expected NAME=VALUE, on one line")
        .meta({ description: "NAME=VALUE" }),
    )
    .max(200)
    .default([])
    .meta({
      description:
        "Variables that jobs get, as gitlab-runner's environment; a job's own win. Jobs can read them: nothing secret.",
    }),
  preGetSources: script.meta({
    description: "Commands before a job's repository is fetched, as gitlab-runner's pre_get_sources_script.",
  }),
  preBuild: script.meta({
    description: "Commands before a job's script, in its shell, as gitlab-runner's pre_build_script.",
  }),
  postBuild: script.meta({
    description:
      "Commands behind a job's script and before its after_script, as gitlab-runner's post_build_script.",
  }),
};

/** A machine reads them when it starts, byte by byte. */
export const fitsMachine = [
  (settings: RunnerSettings) =>
    Buffer.byteLength(
      [...settings.environment, settings.preGetSources, settings.preBuild, settings.postBuild].join("\n"),
    ) <= MOST_SETTINGS_BYTES,
  { message: "environment, preGetSources, preBuild and postBuild are more than 16 KiB together" },
] as const;

const PoolSize = z.strictObject({
  cpus: z.number().int().min(1).max(64).default(1).meta({ description: "Virtual CPUs of each machine." }),
  memory: sizeMib().default(2048).meta({ description: "Memory of each machine, such as 4GiB." }),
  disk: sizeMib().default(20_480).meta({
    description: "Scratch disk of each machine; sparse on the host, and counted whole (vm.overcommit.disk).",
  }),
});

/** One entry of `pools`: a named kind of machine and the GitLab runner whose jobs it serves. */
export const Pool = z
  .strictObject({
    size: PoolSize.prefault({}).meta({ description: "CPUs, memory and scratch disk of each machine." }),
    image: z.string().default("base").meta({ description: "Name or digest of the image machines boot." }),
    driver: DriverName.default("auto").meta({ description: "What runs the machines." }),
    runner: z
      .strictObject({
        token: z
          .string()
          .min(1)
          .optional()
          .meta({ description: "The runner's authentication token (glrt-…).", secret: true }),
        tokenFile: z.string().optional().meta({ description: "A file that holds the token." }),
      })
      .refine((runner) => (runner.token === undefined) !== (runner.tokenFile === undefined), {
        message: "give exactly one of token and tokenFile",
      })
      .optional()
      .meta({
        description:
          "The GitLab runner whose jobs this pool serves. Without one the pool is for the rules of “webhook”.",
      }),
    concurrency: z.number().int().min(1).default(10).meta({ description: "Jobs of this pool at one time." }),
    hostLabels: HostLabels.default({}).meta({
      description: "Labels that a host must have for machines of this pool, such as zone: a.",
    }),
    containers: MachineContainers.prefault({}).meta({
      description: "Jobs that name an image or services (docs/containers.md).",
    }),
    egress: EgressConfig.prefault("internet").meta({
      description:
        "What guests may reach beside GitLab: none, internet (public addresses only), a list of hosts, or a map; see docs/security.md.",
    }),
    ...runnerSettingsKeys,
  })
  .refine(...fitsMachine);
