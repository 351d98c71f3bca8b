/** What placement has to know of every host, put together from what is known of it anyway. */
import { type HostRoom, hostKey } from "../lifecycle/placement.ts";
import type { Capacity } from "../lifecycle/size.ts";
import type { Machine, Store } from "../store/store.ts";
import type { Fleet, VmDriver } from "../vm/driver.ts";
import type { Health } from "./health.ts";

/** Machines of the past that tell which images hosts have. */
const REMEMBERED_MACHINES = 1_000;

export interface HostRooms {
  /** One host. `unseen`: an image that was not tried there counts as unusable. */
  room(key: string, driver: VmDriver, capacity: Capacity, unseen?: "unseen"): HostRoom;
  /** All hosts. Rejects when the capacity of one cannot be told. */
  all(unseen?: "unseen"): Promise<readonly HostRoom[]>;
  /** These machines run, or ran: their hosts have their images. */
  noteImages(machines: readonly Machine[]): void;
  /** Reads which hosts take nothing new. */
  refresh(): Promise<void>;
  drained(): ReadonlySet<string>;
}

export interface HostRoomsDeps {
  readonly fleet: Pick<Fleet, "hosts">;
  readonly health: Pick<Health, "unusable" | "digests">;
  readonly store: Pick<Store, "drainedHosts" | "machines">;
}

export function createHostRooms({ fleet, health, store }: HostRoomsDeps): HostRooms {
  const imagesOn = new Map<string, Set<string>>();
  let drained: ReadonlySet<string> = new Set();
  let isRemembered = false;

  function room(key: string, driver: VmDriver, capacity: Capacity, unseen?: "unseen"): HostRoom {
    return {
      key,
      driver: driver.name,
      capacity,
      labels: driver.labels,
      closed: drained.has(key) ? "it is drained" : driver.trouble()?.problem,
      unusable: health.unusable(key, unseen),
      images: namesOf(imagesOn.get(key) ?? new Set(), health.digests()),
    };
  }

  function noteImages(machines: readonly Machine[]): void {
    for (const machine of machines) {
      if (machine.bootingAt === null) continue;
      const key = hostKey(machine);
      imagesOn.set(key, (imagesOn.get(key) ?? new Set()).add(machine.image));
    }
  }

  return {
    room,
    noteImages,
    all: async (unseen) =>
      await Promise.all(
        [...fleet.hosts()].map(async ([key, driver]) => room(key, driver, await driver.capacity(), unseen)),
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
