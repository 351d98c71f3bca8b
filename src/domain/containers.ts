/** Jobs in containers: what a pool says of them, and what becomes of a job that names an image. */
import { isRemoteDriver } from "./drivers.ts";

/** What a kind of machine has for jobs that name an image or services. */
export interface MachineContainers {
  /** Undefined: where its image can run them. */
  readonly enabled?: boolean | undefined;
  /** Such jobs run in the machine itself, whatever they name. */
  readonly ignore: boolean;
  /** For jobs that name services alone. */
  readonly defaultImage: string;
  /** Containers of jobs have all rights in their machine. */
  readonly privileged: boolean;
  /** What answers at docker's socket; containers of jobs run on podman either way. */
  readonly engine: "podman" | "docker";
  /** Containers of jobs have the engine's socket. */
  readonly socket: boolean;
  /** Images that may be had with FireRunner's own login: `HOST/NAME`, or `HOST/PATH/*`. */
  readonly allow: readonly string[];
  /** Milliseconds in which all images of a job must have come. */
  readonly pullDeadline: number;
}

/** What becomes of jobs that name an image or services: in words where they are refused. */
export type ContainersUse =
  /** `images`: their machines have them on disks, or pull them through the relay. */
  | { readonly kind: "run"; readonly images: "disks" | "pulled" }
  /** `unsaid`: why, where nobody asked for it. */
  | { readonly kind: "ignore"; readonly unsaid: string | undefined }
  | { readonly kind: "refuse"; readonly reason: string };

/** Whether a pool's machines run containers, given its image; the same answer wherever it is asked for. */
export function containersUse(
  {
    containers,
    driver,
    image: name,
  }: { readonly containers: MachineContainers; readonly driver: string; readonly image: string },
  image: {
    readonly containerRunnerInfo?: object | undefined;
    readonly abilities?: readonly string[] | undefined;
  },
): ContainersUse {
  const { enabled, ignore, engine } = containers;
  if (ignore) return { kind: "ignore", unsaid: undefined };
  const lack =
    image.containerRunnerInfo === undefined
      ? `its image ${name} runs none (firerunner image build containers makes one that does)`
      : undefined;
  if (enabled === false)
    return { kind: "refuse", reason: "this pool runs no jobs in containers (containers.enabled: false)" };
  if (lack === undefined && engine === "docker" && image.abilities?.includes("docker-engine") === false)
    return {
      kind: "refuse",
      reason: `its image ${name} has no Docker Engine, which containers.engine asks for (firerunner image build docker makes one that has)`,
    };
  if (lack === undefined) return { kind: "run", images: isRemoteDriver(driver) ? "pulled" : "disks" };
  if (enabled === undefined) return { kind: "ignore", unsaid: lack };
  return { kind: "refuse", reason: `this pool cannot run jobs in containers: ${lack}` };
}

/** What the payload of a job says is enough to tell: the runner goes by the same two. */
export function namesContainers(payload: {
  readonly image?: { readonly name?: unknown } | null | undefined;
  readonly services?: readonly unknown[] | null | undefined;
}): boolean {
  return Boolean(payload.image?.name) || (payload.services ?? []).length > 0;
}
