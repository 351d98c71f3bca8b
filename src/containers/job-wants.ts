/**
 * What a job's payload asks for: whether it runs in containers, and the images that its machine must have for that. Pure, so that whoever
 * needs to know works it out anew from the payload that is kept, also after a restart.
 */
import { z } from "zod";
import { parseJson } from "../base/json.ts";
import { ContainerError } from "./errors.ts";
import { expansionWith } from "./expand.ts";
import { type JobLogins, jobLogins } from "./job-logins.ts";
import { parseImageName } from "./reference.ts";
import { type PullPolicy, pullPolicies } from "./resolve.ts";

export interface JobWants {
  readonly executor: "shell" | "docker";
  /** Each image once, by its full name; in the order of the payload, the job's own first. */
  readonly images: readonly WantedJobImage[];
  readonly logins: JobLogins;
}

export interface WantedJobImage {
  /** In full: `docker.io/library/node:24`. */
  readonly name: string;
  /** Tried in this order until one gives the image. */
  readonly policies: readonly PullPolicy[];
  /** The operator has named it, in the pool or as one that its jobs may have. */
  readonly isTrusted: boolean;
}

interface WantsRules {
  /** The image of a job that names services alone. */
  readonly defaultImage: string;
  /** `HOST/NAME` or `HOST/PATH/*`: images that may be had with FireRunner's own login, from wherever their registry is. */
  readonly allow: readonly string[];
  /** In docker's words: `amd64`. */
  readonly architecture: string;
  /** `NAME=VALUE` that the pool gives its jobs: the runner knows them, and a job's own win. */
  readonly environment?: readonly string[] | undefined;
}

const optionalText = z.string().nullish().catch(null);

const Image = z.looseObject({
  name: z.string(),
  pull_policy: z.unknown().optional(),
  executor_opts: z
    .looseObject({ docker: z.looseObject({ platform: optionalText }).nullish().catch(null) })
    .nullish()
    .catch(null),
});
type Image = z.infer<typeof Image>;

const Payload = z.looseObject({
  image: Image.nullish(),
  services: z.array(Image).nullish(),
  variables: z
    .array(
      z.looseObject({
        key: z.string(),
        value: z
          .string()
          .nullish()
          .transform((value) => value ?? ""),
        file: z.boolean().optional().catch(undefined),
        raw: z.boolean().optional().catch(undefined),
      }),
    )
    .nullish(),
  credentials: z
    .array(
      z.looseObject({
        type: optionalText,
        url: optionalText,
        username: optionalText,
        password: optionalText,
      }),
    )
    .nullish()
    .catch(null),
});

/** A login or a name has far fewer. */
const EXPANDED_CHARACTERS_MAX = 64 * 1024;
/** A machine has room for fewer disks; this bounds what is worked out before that is known. */
const IMAGES_MAX = 100;

/** `raw`: the payload as GitLab sent it. Throws `container_bad_name`, `container_bad_policy` or `container_wrong_platform`. */
export function jobWants(raw: string, rules: WantsRules): JobWants {
  const { image, services, variables, credentials } = Payload.parse(parseJson(raw));
  const given = [...(image?.name ? [image] : []), ...(services ?? [])];
  const all = [...variablesOf(rules.environment ?? []), ...(variables ?? [])];
  const expansion = expansionWith(all, EXPANDED_CHARACTERS_MAX);
  const logins = jobLogins(expansion.valueOf("DOCKER_AUTH_CONFIG"), credentials ?? []);
  if (given.length === 0) return { executor: "shell", images: [], logins };
  if (given.length > IMAGES_MAX) throw tooMany(given.length);
  const named = given.map((each) => wantOf(each, expansion.expand, rules));
  const images = image?.name ? named : [defaultOf(rules), ...named];
  return { executor: "docker", images: eachOnce(images), logins };
}

/** The logins alone; `environment` is what the pool gives the job, of which the job's own variables count more. */
export function payloadLogins(raw: string, environment: readonly string[]): JobLogins {
  const { variables, credentials } = Payload.parse(parseJson(raw));
  const expansion = expansionWith(
    [...variablesOf(environment), ...(variables ?? [])],
    EXPANDED_CHARACTERS_MAX,
  );
  return jobLogins(expansion.valueOf("DOCKER_AUTH_CONFIG"), credentials ?? []);
}

function variablesOf(environment: readonly string[]): { key: string; value: string }[] {
  return environment.map((each) => {
    const [key = "", value = ""] = each.split(/=(.*)/s);
    return { key, value };
  });
}

function wantOf(image: Image, expand: (text: string) => string, rules: WantsRules): WantedJobImage {
  const text = expand(image.name).trim();
  if (text === "") throw emptyName(image.name);
  const { name, registry, repository } = parseImageName(text);
  const platform = expand(image.executor_opts?.docker?.platform ?? "");
  requirePlatform(name, platform, rules.architecture);
  return {
    name,
    policies: policiesOf(name, image.pull_policy),
    isTrusted: isAllowed(`${registry}/${repository}`, rules.allow),
  };
}

function defaultOf({ defaultImage }: WantsRules): WantedJobImage {
  return { name: parseImageName(defaultImage).name, policies: ["always"], isTrusted: true };
}

/** A name that is there twice, by the policy that asks most. */
function eachOnce(images: readonly WantedJobImage[]): WantedJobImage[] {
  const byName = new Map<string, WantedJobImage>();
  for (const image of images) {
    const other = byName.get(image.name);
    const policies = other && strictness(other) <= strictness(image) ? other.policies : image.policies;
    const isTrusted = image.isTrusted || other?.isTrusted === true;
    byName.set(image.name, { name: image.name, policies, isTrusted });
  }
  return [...byName.values()];
}

function strictness({ policies: [first = "always"] }: WantedJobImage): number {
  return pullPolicies.indexOf(first);
}

/** One, or a list of them; the official runner's own default where there is none. */
function policiesOf(name: string, given: unknown): PullPolicy[] {
  const listed = (Array.isArray(given) ? given : [given ?? []]).flat();
  const policies = listed.map((each) => {
    const policy = pullPolicies.find((known) => known === each);
    if (policy === undefined) throw badPolicy(name, each);
    return policy;
  });
  return policies.length === 0 ? ["always"] : [...new Set(policies)];
}

/** Under a name, or the name itself; the host is always said in full, so that a pattern opens no other registry. */
export function isAllowed(image: string, allow: readonly string[]): boolean {
  return allow.some((pattern) =>
    pattern.endsWith("/*") ? image.startsWith(pattern.slice(0, -1)) : image === pattern,
  );
}

const architectures: Readonly<Record<string, string>> = {
  x86_64: "amd64",
  "x86-64": "amd64",
  aarch64: "arm64",
};

/** Podman would run what lies on the disk, whatever the job asked for. */
function requirePlatform(name: string, platform: string, own: string): void {
  if (platform === "") return;
  const [os = "", architecture] = platform.toLowerCase().includes("/")
    ? platform.toLowerCase().split("/")
    : platform === "linux"
      ? ["linux", own]
      : ["linux", platform.toLowerCase()];
  const wanted = architectures[architecture ?? ""] ?? architecture;
  if (os === "linux" && wanted === own) return;
  throw new ContainerError(
    "container_wrong_platform",
    `${name} is wanted for the platform ${platform.slice(0, 80)}, and machines here are linux/${own}`,
    { hint: "leave docker:platform out, or run the job on a computer of that architecture" },
  );
}

function emptyName(text: string): ContainerError {
  const what = text === "" ? "an image or service has no name" : `“${text.slice(0, 200)}” is no image's name`;
  return new ContainerError("container_bad_name", `${what}: nothing is left of it with the job's variables`, {
    hint: "check that the variables it names have a value in this job",
  });
}

function badPolicy(name: string, given: unknown): ContainerError {
  const shown = String(typeof given === "string" ? given : JSON.stringify(given)).slice(0, 80);
  return new ContainerError("container_bad_policy", `${name} has the pull policy “${shown}”`, {
    hint: `use ${pullPolicies.join(", ")}, or several of them`,
  });
}

function tooMany(count: number): ContainerError {
  return new ContainerError("container_bad_name", `the job names ${count} images and services`, {
    hint: `let it name at most ${IMAGES_MAX}`,
  });
}

/**
 * The registries of these images, as the machine is told them: each is asked through the relay. Throws `container_not_here` for an image
 * that is not to be pulled, and `container_bad_name` where the relay could not be told of its registry.
 */
export function pulledRegistries(images: readonly Pick<WantedJobImage, "name" | "policies">[]): string[] {
  const registries = images.map(({ name, policies }) => {
    if (policies.every((policy) => policy === "never")) throw neverHere(name);
    return parseImageName(name).registry;
  });
  const odd = registries.find((registry) => !isMirrored(registry));
  if (odd !== undefined) throw notMirrored(odd);
  return [...new Set(registries)];
}

/** As clients say it to the relay: by the first part of a name, `HOST` or `HOST__PORT`. */
function isMirrored(registry: string): boolean {
  return !registry.startsWith("[") && /[.:]/.test(registry);
}

function neverHere(name: string): ContainerError {
  return new ContainerError(
    "container_not_here",
    `${name} has the pull policy “never”, and machines of this pool begin without images`,
    { hint: "use always or if-not-present: the machine pulls it through the relay" },
  );
}

function notMirrored(registry: string): ContainerError {
  return new ContainerError(
    "container_bad_name",
    `the registry “${registry}” cannot be asked for by machines of this pool`,
    { hint: "name it by a host with a dot, or with its port" },
  );
}
