/** What an image is to those who boot it: its files, where hosts pull it from, and what its guests can do. */
import type { MachineKind } from "./pool.ts";

/** An image as a driver needs it: files on this computer, addressed by digest. */
export interface BootImage {
  /** `sha256:…` over the contents of all its files. */
  readonly digest: string;
  /** `amd64` or `arm64`, in Debian's words. */
  readonly architecture: string;
  readonly kernel: string;
  readonly initramfs: string;
  /** Read-only file systems in the order of their disks: the base first; later ones lie over earlier ones. */
  readonly layers: readonly string[];
  /** Where hosts of a fleet pull it from; undefined while it has not been pushed. */
  readonly published?: PublishedImage;
}

/** The same content as the two OCI images that a host pulls by digest: `registry.example.org:5000/name/kernel@sha256:…`. */
export interface PublishedImage {
  /** Holds `boot/vmlinux` and `boot/initrd.img`. */
  readonly kernel: string;
  /** The root file system. */
  readonly root: string;
  /** True for a root of other people: its own init starts it, and cloud-init makes it one of ours. */
  readonly cloudInit?: boolean;
  /** What this computer calls the registry of our own images. */
  readonly registry?: string;
  /** How our own images were pushed there. */
  readonly pushed?: PushedBy;
}

/** How this computer speaks to a registry of its own choice. */
export interface PushedBy {
  /** True: HTTP without TLS; false: TLS with this computer, too. */
  readonly plainHttp?: boolean | undefined;
  /** PEM of authorities to trust besides the public ones. */
  readonly ca?: string | undefined;
}

/** What a registry says of an image that hosts are to pull; `locked`: only with a login; `unknown`: it could not be asked. */
export interface ImagePresence {
  readonly state: "there" | "gone" | "locked" | "unknown";
  /** Names the image. */
  readonly words: string;
}

/** Asks as a host does, without a login. Throws only when the signal aborts. */
export type AskRegistry = (image: PublishedImage, signal: AbortSignal) => Promise<ImagePresence>;

/** What to do about an image that hosts cannot pull. */
export const pushAgain =
  "push it again: firerunner image push REGISTRY/NAME (a root of images.roots is its maker's to push)";

/**
 * What machines of an image can do beside running a job. `image.json` names those of the image (`abilities`); the manager goes on
 * serving images of the release before, and says what is missing there. A new ability is a row here; what an image lacks is
 * never asked of its guest.
 */
interface GuestAbility {
  /** The release whose images have it first. */
  readonly since: string;
  readonly use: string;
  /** What users see of an image that lacks it. */
  readonly without: string;
  /** Wanted by every pool, or only where the configuration asks for what it is for. */
  readonly wanted: "always" | "when-configured";
}

/** Of one variant alone, and not of age. */
const DOCKER_ENGINE = "docker-engine";

export const guestAbilities = {
  background: {
    since: "0.2",
    use: "a script ends when its own process does",
    without: "a process that a script leaves in the background holds its job until the time limit",
    wanted: "always",
  },
  "project-folder": {
    since: "0.2",
    use: "one folder for a project in every job, and GIT_CLONE_PATH",
    without: "a project's folder differs from job to job, and GIT_CLONE_PATH fails a job",
    wanted: "always",
  },
  "log-limit": {
    since: "0.2",
    use: "relay.traceLimit decides how long logs may be",
    without: "logs are cut at 4 MiB whatever relay.traceLimit says",
    wanted: "always",
  },
  lfs: {
    since: "0.2",
    use: "git-lfs in the image",
    without: "jobs find pointers where git-lfs keeps a file's content",
    wanted: "always",
  },
  "memory-end": {
    since: "0.2",
    use: "a script that wants more memory than its machine has is ended soon, and the job's log says so",
    without: "a script that wants more memory than its machine has can hold it until the time limit",
    wanted: "always",
  },
  cache: {
    since: "0.2",
    use: "caches that jobs name are kept from job to job",
    without: "what jobs name under cache: is not kept",
    wanted: "always",
  },
  authorities: {
    since: "0.2",
    use: "certificate authorities of the operator's network",
    without: "machines do not trust gitlab.caFile, proxy.caFile and guests.caFile",
    wanted: "when-configured",
  },
  "runner-settings": {
    since: "0.2",
    use: "environment, preGetSources, preBuild and postBuild",
    without: "environment, preGetSources, preBuild and postBuild of its pool reach no job",
    wanted: "when-configured",
  },
  "docker-socket": {
    since: "0.2",
    use: "containers.socket",
    without: "containers of jobs get no socket of the engine",
    wanted: "when-configured",
  },
  [DOCKER_ENGINE]: {
    since: "0.2",
    use: "containers.engine: docker, in images of the variant docker",
    without: "nothing answers at docker's socket",
    wanted: "when-configured",
  },
} as const satisfies Record<string, GuestAbility>;

export type AbilityName = keyof typeof guestAbilities;

export const abilityNames = Object.keys(guestAbilities) as AbilityName[];

/** What pools want of their images, given what the configuration asks for beside what is always wanted. */
export function wantedAbilities(configured: readonly AbilityName[] = []): AbilityName[] {
  return abilityNames.filter((name) => {
    const { wanted }: GuestAbility = guestAbilities[name];
    return wanted === "always" || configured.includes(name);
  });
}

/** What a kind of machine asks of its image beside what is always wanted. */
export function askedBy({
  containers: { engine, socket },
  runnerSettings,
}: Pick<MachineKind, "containers" | "runnerSettings">): AbilityName[] {
  return [
    ...(runnerSettings ? (["runner-settings"] as const) : []),
    ...(socket ? (["docker-socket"] as const) : []),
    ...(engine === "docker" ? ([DOCKER_ENGINE] as const) : []),
  ];
}

/** What machines of a variant can do when it is built by this release. */
export function abilitiesOf(variant: string): AbilityName[] {
  return abilityNames.filter((name) => name !== DOCKER_ENGINE || variant === "docker");
}

/** One sentence on what an image lacks, with the command that mends it. */
export interface ImageNote {
  readonly problem: string;
  readonly hint: string;
}

interface NamedImage {
  readonly name: string;
  /** Which of the variants it was built as. */
  readonly variant?: string | undefined;
  /** What image.json says; an image of before abilities were written down has none. */
  readonly abilities: readonly string[];
}

/** Undefined when it lacks nothing that is wanted. */
export function lackingNote(
  { name: image, variant = "base", abilities: has }: NamedImage,
  wanted: readonly AbilityName[],
): ImageNote | undefined {
  const lacking = wanted.filter((name) => !has.includes(name));
  if (lacking.length === 0) return undefined;
  if (lacking.includes(DOCKER_ENGINE) && variant !== "docker")
    return {
      problem: `the image ${image} has no Docker Engine, which containers.engine: docker asks for: ${guestAbilities[DOCKER_ENGINE].without}`,
      hint: "Build one that has it, and give its name to the pool: firerunner image build docker",
    };
  const consequences = lacking.map((name) => guestAbilities[name].without).join("; ");
  return {
    problem: `the image ${image} was built by an earlier release (it lacks ${lacking.join(", ")}): ${consequences}`,
    hint: `Build it again; machines that run are not disturbed: firerunner image build${variant === "base" ? "" : ` ${variant}`}${image === variant ? "" : ` --name ${image}`}`,
  };
}
