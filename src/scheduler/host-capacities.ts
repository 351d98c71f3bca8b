/** What placement has to know of every host, put together from what is known of it anyway. */
import { type HostCapacity, hostKey } from "../domain/placement.ts";
import type { Capacity } from "../domain/size.ts";
import type { HostStore, Machine, MachineStore } from "../store/store.ts";
import type { Fleet, VmDriver } from "../vm/driver.ts";
import type { Health } from "./health.ts";
import type { Refusals } from "./refusals.ts";

/** Machines of the past that tell which images hosts have. */
const REMEMBERED_MACHINES = 1_000;

export interface HostCapacities {
  /** One host. `unseen`: an image that was not tried there counts as unusable. */
  of(key: string, driver: VmDriver, capacity: Capacity, unseen?: "unseen"): HostCapacity;
  /** All hosts. Rejects when the capacity of one cannot be told. */
  all(unseen?: "unseen"): Promise<readonly HostCapacity[]>;
  /** These machines run, or ran: their hosts have their images. */
  noteImages(machines: readonly Machine[]): void;
  /**
   * Machines that run on a host and that nobody needs, from a look at it. One that is there at the first look or at two in a row fills
   * the host: what it takes is not known, so that nothing else goes there until it is removed.
   */
  noteUnneeded(key: string, ids: readonly string[]): void;
  /** Reads which hosts take nothing new. */
  refresh(): Promise<void>;
  drained(): ReadonlySet<string>;
}

export interface HostCapacitiesDeps {
  readonly fleet: Pick<Fleet, "hosts">;
  readonly health: Pick<Health, "unusable" | "digests">;
  readonly refusals: Pick<Refusals, "on">;
  readonly store: Pick<HostStore, "drainedHosts"> & Pick<MachineStore, "machines">;
}

export function createHostCapacities({ fleet, health, refusals, store }: HostCapacitiesDeps): HostCapacities {
  const imagesOn = new Map<string, Set<string>>();
  const unneeded = new Map<string, { readonly seen: ReadonlySet<string>; readonly lasting: number }>();
  let drained: ReadonlySet<string> = new Set();
  let isRemembered = false;

  function of(key: string, driver: VmDriver, capacity: Capacity, unseen?: "unseen"): HostCapacity {
    return {
      key,
      driver: driver.name,
      capacity,
      labels: driver.labels,
      closed: drained.has(key) ? "it is drained" : (driver.trouble()?.problem ?? unneededOn(key)),
      unusable: health.unusable(key, unseen),
      images: namesOf(imagesOn.get(key) ?? new Set(), health.digests()),
      refusals: refusals.on(key, (digest) => namesOf(new Set([digest]), health.digests())),
    };
  }

  function unneededOn(key: string): string | undefined {
    const count = unneeded.get(key)?.lasting ?? 0;
    if (count === 0) return undefined;
    return `it still runs ${count === 1 ? "a machine" : `${count} machines`} that nobody needs, until they are removed`;
  }

  /** Seen for the first time, it may be one that we removed between the look at the host and that at the rows. */
  function noteUnneeded(key: string, ids: readonly string[]): void {
    const before = unneeded.get(key)?.seen;
    const lasting = before ? ids.filter((id) => before.has(id)) : ids;
    unneeded.set(key, { seen: new Set(ids), lasting: lasting.length });
  }

  function noteImages(machines: readonly Machine[]): void {
    for (const machine of machines) {
      if (machine.bootingAt === null) continue;
      const key = hostKey(machine);
      imagesOn.set(key, (imagesOn.get(key) ?? new Set()).add(machine.image));
    }
  }

  return {
    of,
    noteImages,
    noteUnneeded,
    all: async (unseen) =>
      await Promise.all(
        [...fleet.hosts()].map(async ([key, driver]) => of(key, driver, await driver.capacity(), unseen)),
      ),
    async refresh() {
      drained = new Set(await store.drainedHosts());
      if (isRemembered) return;
      noteImages(await store.machines({ limit: REMEMBERED_MACHINES }));
      isRemembered = true;
    },
    drained: () => drained,
  };
}

function namesOf(there: ReadonlySet<string>, digests: ReadonlyMap<string, string>): ReadonlySet<string> {
  return new Set([...digests].flatMap(([name, digest]) => (there.has(digest) ? [name] : [])));
}
