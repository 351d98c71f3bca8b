/** One computer with room for three machines, as FireRunner runs on it by default. */
import { newMachineId } from "../../src/base/ids.ts";
import type { VmDriver } from "../../src/vm/driver.ts";
import { VmError } from "../../src/vm/errors.ts";
import { createFakeDriver } from "../../src/vm/fake/driver.ts";
import { createFakeHost, type FakeHost } from "../../src/vm/fake/host.ts";
import { createFleet } from "../../src/vm/fleet.ts";
import { anImage } from "../builders/image.ts";
import { aPool } from "../builders/pool.ts";
import { aSize } from "../builders/size.ts";
import { broken, failedCreate } from "./sim-faults.ts";
import type { Site, World } from "./world.ts";

export function createOneHost(world: World, play: FakeHost["onCreate"]): Site {
  const { random, clock } = world;
  const host = createFakeHost(clock);
  const disks = random.between(1, 4);
  const capacity = { cpus: 3, memoryMib: 16_384, machines: 3, diskMib: disks * aSize().diskMib };
  setFaults(world, host);
  host.onCreate = play;
  return {
    pools: [aPool({ concurrency: 4 })],
    jobs: random.between(1, 5),
    callsPerRound: 1,
    open(process) {
      const bare = createFakeDriver({ host, capacity });
      process.onDeath(() => void bare.close());
      const driver: VmDriver = process.guard(bare, ["relaySocket", "onExit", "followConsole", "trouble"]);
      return createFleet([driver]);
    },
    attend: () => {},
    trouble: () => causeTrouble(world, host),
    isCutOff: () => false,
    leftovers: host.ids,
    violations: [],
  };
}

function setFaults({ random, isFaulty, harmed }: World, host: FakeHost): void {
  host.faults.create = ({ id }) => {
    const delayMs = random.between(10, 600);
    if (!isFaulty() || random.chance(0.8)) return { delayMs };
    harmed.add(id);
    return failedCreate(random, delayMs);
  };
  host.faults.destroy = () =>
    isFaulty() && random.chance(0.2) ? new VmError("vm_destroy_failed", "it would not go away") : undefined;
  host.faults.list = () => (isFaulty() && random.chance(0.05) ? broken("the host is busy") : undefined);
}

/** Machines that somebody takes away, and machines that nobody knows. */
async function causeTrouble(world: World, host: FakeHost): Promise<void> {
  const { clock, random, isFaulty, harmed, log } = world;
  while (isFaulty()) {
    await clock.sleep(random.between(2_000, 20_000));
    if (random.chance(0.05)) {
      log("a machine appears that nobody knows");
      const size = { cpus: 1, memoryMib: 512, diskMib: 512 };
      host.start({ id: newMachineId(random.bytes), size, image: anImage });
    }
    const id = host.ids()[0];
    if (id !== undefined && isFaulty() && random.chance(0.1)) {
      harmed.add(id);
      log(`${id} is taken away`);
      host.remove(id);
    }
  }
}
