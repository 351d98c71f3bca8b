/** What is told of machines whose jobs run in containers: to themselves, and to the mirror at the relay. */
import { hostArchitecture } from "../containers/fetch/documents.ts";
import { type JobWants, jobWants, pulledRegistries } from "../containers/job-wants.ts";
import { containersUse } from "../domain/containers.ts";
import type { Pool } from "../domain/pool.ts";
import type { ContainersBootData } from "../guest/boot.ts";
import type { PulledImage } from "../relay/mirror/port.ts";
import type { ImageSource } from "../scheduler/ports.ts";
import type { JobStore, Machine } from "../store/store.ts";

interface Outfit {
  readonly boot: ContainersBootData;
  /** Images that it pulls itself. */
  readonly pulled: readonly PulledImage[];
}

interface OutfitsDeps {
  readonly store: Pick<JobStore, "payload">;
  readonly pools: () => ReadonlyMap<string, Pool>;
  readonly images: ImageSource;
}

export interface Outfits {
  /** Undefined for a machine whose job runs in the shell. */
  set(machineId: string, outfit: Outfit | undefined): void;
  forget(machineId: string): void;
  /** Worked out anew after a restart. Throws when that is not possible any more. */
  of(machine: Machine): Promise<Outfit | undefined>;
}

/** They stay as they were made: a reload changes nothing for a machine that has its disks. */
export function createOutfits(deps: OutfitsDeps): Outfits {
  const told = new Map<string, Outfit | undefined>();
  return {
    set: (machineId, outfit) => void told.set(machineId, outfit),
    forget: (machineId) => void told.delete(machineId),
    async of(machine) {
      if (!told.has(machine.id)) told.set(machine.id, await outfitAnew(deps, machine));
      return told.get(machine.id);
    },
  };
}

async function outfitAnew(
  { store, pools, images }: OutfitsDeps,
  machine: Machine,
): Promise<Outfit | undefined> {
  const { id, pool: name, image, jobId } = machine;
  const found = await images.resolve(image);
  if (found.containerRunnerInfo === undefined || jobId === null) return undefined;
  const pool = pools().get(name);
  if (pool === undefined) throw new Error(`the pool ${name} of machine ${id} is not configured any more`);
  const use = containersUse(pool, found);
  if (use.kind !== "run") return undefined;
  const raw = await store.payload(jobId);
  const wants = raw === undefined ? undefined : jobWants(raw, rulesOf(pool));
  return wants?.executor === "docker" ? outfitFrom(pool, wants, use.images) : undefined;
}

export function rulesOf({ containers, runnerSettings }: Pool) {
  const { defaultImage, allow } = containers;
  const environment = runnerSettings?.environment;
  return { defaultImage, allow, architecture: hostArchitecture(), environment };
}

/** Throws `container_not_here` or `container_bad_name` for images that no machine could pull. */
export function outfitFrom({ containers }: Pool, { images }: JobWants, way: "disks" | "pulled"): Outfit {
  const { defaultImage, privileged, socket } = containers;
  const usual = { defaultImage, privileged, socket };
  if (way === "disks") return { boot: { ...usual, imageDisks: images.length }, pulled: [] };
  const pulled = images.map(({ name, isTrusted }) => ({ name, isTrusted }));
  return { boot: { ...usual, imageDisks: 0, registries: pulledRegistries(images) }, pulled };
}
