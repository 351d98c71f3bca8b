/** A host of a fleet: it goes away, hangs, loses what it had and finds again what it had lost. */
import { hostKey } from "../../src/domain/placement.ts";
import type { Capacity } from "../../src/domain/size.ts";
import type { MachineSpec, RelayLink, VmDriver } from "../../src/vm/driver.ts";
import { VmError } from "../../src/vm/errors.ts";
import { createFakeFleetDriver } from "../../src/vm/fake/driver.ts";
import { type CreateFault, createFakeHost, type FakeCall, type FakeHost } from "../../src/vm/fake/host.ts";
import { anImage } from "../builders/image.ts";
import { broken, failedCreate } from "./sim-faults.ts";
import type { SimLedger } from "./sim-ledger.ts";
import type { SimProcess } from "./sim-process.ts";
import type { World } from "./world.ts";

/** `hanging`: whoever asks waits for ever. `away`: whoever asks is told at once. `dead`: away, and it does not come back by itself. */
type HostState = "well" | "hanging" | "away" | "dead";

/** What becomes of creates on a host that answers: refused with an answer, for want of the image, or made after longer than is waited. */
type HostMood = "willing" | "refusing" | "without image" | "slow";

export interface SimHost {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly capacity: Capacity;
  readonly host: FakeHost;
  state: HostState;
  mood: HostMood;
  /** Its guests do not reach the relay either. */
  isCutOff: boolean;
  /** As one process reaches it. */
  open(process: SimProcess): VmDriver;
  /** All its machines are gone, and nobody is told. */
  empty(): void;
  /** Machines that it had before, running or removed since, are started again on their used disks. */
  startOldMachines(): void;
  /** A machine of this installation that no store knows. */
  startStranger(id: string): void;
}

/** How many machines a host remembers that were removed. */
const REMEMBERED = 3;

export function createSimHost(
  world: World,
  ledger: SimLedger,
  about: Pick<SimHost, "name" | "labels" | "capacity">,
  play: FakeHost["onCreate"],
): SimHost {
  const { random, clock, isFaulty, harmed, log } = world;
  const host = createFakeHost(clock);
  const key = hostKey({ driver: "fake", host: about.name });
  const past = new Map<string, { spec: MachineSpec; link: RelayLink | undefined }>();

  host.onCreate = async (guest) => {
    // What was being made when it died is not made.
    if (isDead()) return host.remove(guest.spec.id);
    past.delete(guest.spec.id);
    past.set(guest.spec.id, guest);
    for (const id of [...past.keys()].slice(0, -REMEMBERED)) if (!host.status(id)) past.delete(id);
    await play(guest);
  };

  const isDead = () => self.state === "dead";

  async function reach({ name, id }: FakeCall, signal: AbortSignal): Promise<void> {
    if (self.state !== "well" && name === "create" && id !== undefined) harmed.add(id);
    if (self.state === "hanging") await untilAborted(signal);
    if (self.state !== "well") throw broken(`${about.name} cannot be reached`);
    if (!isFaulty() || random.chance(0.95)) return;
    if (name === "create" && id !== undefined) harmed.add(id);
    const slowness = random.pick([200, 1_500, 4_000, 9_000]);
    await clock.sleep(slowness, signal);
    if (random.chance(0.3)) throw broken(`${about.name} is disturbed`);
    if (isDead()) throw broken(`${about.name} died over it`);
  }

  host.faults.reach = reach;
  host.faults.create = ({ id, size }) => {
    const running = host.ids().filter((each) => host.status(each)?.running);
    ledger.checkRoom(key, id, size, about.capacity, running);
    const delayMs = random.between(10, 600);
    if (self.mood !== "willing") return unwilling(self.mood, delayMs, id);
    if (!isFaulty() || random.chance(0.85)) return { delayMs };
    // Made all the same: its guest will be heard.
    if (random.chance(0.4)) return { isUnanswered: true };
    harmed.add(id);
    return failedCreate(random, delayMs);
  };
  host.faults.destroy = (id) => {
    if (!isFaulty() || random.chance(0.7)) return undefined;
    // Half of the deletes that fail were carried out.
    if (random.chance(0.5)) host.remove(id);
    return new VmError("vm_destroy_failed", "it would not go away");
  };

  function unwilling(mood: HostMood, delayMs: number, id: string): CreateFault {
    harmed.add(id);
    if (mood === "slow") return { delayMs: 11_000 };
    if (mood === "refusing") return { delayMs, fail: broken(`${about.name} makes no machines`) };
    return { delayMs, fail: new VmError("vm_image_gone", `${about.name} cannot pull the image`) };
  }

  const self: SimHost = {
    ...about,
    host,
    state: "well",
    mood: "willing",
    isCutOff: false,
    open(process) {
      const bare = createFakeFleetDriver({ ...about, host });
      process.onDeath(() => void bare.close());
      const list: VmDriver["list"] = async (signal) => {
        const machines = await bare.list(signal);
        if (process.isAlive()) ledger.noteList(key, new Set(machines.map(({ id }) => id)));
        return machines;
      };
      return process.guard({ ...bare, list }, ["relaySocket", "onExit", "followConsole", "trouble"]);
    },
    empty() {
      for (const id of host.ids()) host.remove(id);
    },
    startOldMachines() {
      for (const [id, { spec, link }] of [...past]) {
        log(`${about.name} starts ${id} again`);
        harmed.add(id);
        host.remove(id);
        host.start(spec, link);
      }
    },
    startStranger: (id) =>
      host.start({ id, size: { cpus: 1, memoryMib: 1_024, diskMib: 512 }, image: anImage }),
  };
  return self;
}

function untilAborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}
