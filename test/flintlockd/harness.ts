import { randomBytes } from "node:crypto";
import type { Clock } from "../../src/base/clock.ts";
import { newMachineId } from "../../src/base/ids.ts";
import { type Log, silentLog } from "../../src/base/log.ts";
import { Secret } from "../../src/base/secret.ts";
import type { AskRegistry } from "../../src/domain/images.ts";
import type { DriverSight, VmDriverHarness } from "../../src/vm/driver.contract.ts";
import type { MachineSpec, RelayLink } from "../../src/vm/driver.ts";
import type { FlintlockHost } from "../../src/vm/flintlock/config.ts";
import { FlintlockConfig } from "../../src/vm/flintlock/config.ts";
import { createFlintlockDriver } from "../../src/vm/flintlock/driver.ts";
import { aFlintlockHost } from "../builders/flintlock-host.ts";
import { createScaledClock } from "../harness/scaled-clock.ts";
import { aSpec, bareClient, type SpecInit } from "./client.ts";
import type { StandInOptions } from "./options.ts";
import { type Flintlockd, startFlintlockd } from "./stand-in.ts";

/** So many times faster than a real daemon, and the driver's clock with it. */
const FACTOR = 20;
export const NAMESPACE = "fr-test";
export const flintlockSight: DriverSight = { consoles: false, ends: false, halfMade: false };

const digest = (letter: string) => `sha256:${letter.repeat(64)}`;
export const publishedImage = {
  digest: digest("0"),
  architecture: "amd64",
  kernel: "",
  initramfs: "",
  layers: [],
  published: {
    kernel: `localhost:5000/fr/kernel@${digest("a")}`,
    root: `localhost:5000/fr/root@${digest("b")}`,
  },
};

export async function aLink(): Promise<RelayLink> {
  const secret = new Secret(randomBytes(32).toString("hex"));
  return {
    address: "relay.example.org:8443",
    serverName: "relay",
    ca: "-----BEGIN CERTIFICATE-----\n",
    secret,
  };
}

export interface FlintlockHarness extends VmDriverHarness {
  readonly flintlockd: Flintlockd;
  readonly clock: Clock;
  aSpec(change?: Partial<MachineSpec>): MachineSpec;
  /** A machine made behind the driver's back, by whoever. */
  makeBehind(spec: SpecInit): Promise<string>;
}

export interface FlintlockHarnessOptions extends StandInOptions {
  /** What of the host's entry is not as usual; its address is the stand-in's. */
  readonly host?: (address: string) => Partial<FlintlockHost>;
  /** Faults of the host that are there from the first call on. */
  readonly prepare?: (flintlockd: Flintlockd) => void;
  readonly settings?: Partial<Record<"callTimeout" | "pullTimeout" | "deleteTimeout", string>>;
  readonly factor?: number;
  readonly askRegistry?: AskRegistry;
  readonly log?: Log;
}

/** A driver on a stand-in for flintlockd, over real HTTP/2. */
export async function createFlintlockHarness(
  options: FlintlockHarnessOptions = {},
): Promise<FlintlockHarness> {
  const { factor = FACTOR, prepare, host, settings = {}, log = silentLog, askRegistry, ...standIn } = options;
  const clock = createScaledClock(factor);
  const localImages = Object.values(publishedImage.published);
  const flintlockd = await startFlintlockd({ localImages, scale: 1 / factor, ...standIn });
  const { hosts: _, ...config } = FlintlockConfig.parse({ callTimeout: "60s", ...settings });
  prepare?.(flintlockd);
  const size = { cpus: 1, memoryMib: 1_024, diskMib: 64 };

  async function makeBehind(spec: SpecInit): Promise<string> {
    const { kernel: image, root } = publishedImage.published;
    const kernel = { image, filename: "boot/vmlinux" };
    const rootVolume = { id: "root", source: { containerSource: root } };
    const microvm = aSpec({ namespace: NAMESPACE, kernel, rootVolume, ...spec });
    const made = await bareClient(flintlockd.address).createMicroVM({ microvm });
    return made.microvm?.spec?.uid ?? "";
  }

  const ofId = (id: string) => flintlockd.machines().filter((each) => each.id === id);

  return {
    flintlockd,
    clock,
    image: publishedImage,
    size,
    link: aLink,
    open: () =>
      createFlintlockDriver({
        host: aFlintlockHost({ addresses: [flintlockd.address], ...host?.(flintlockd.address) }),
        namespace: NAMESPACE,
        settings: config,
        clock,
        log,
        random: Math.random,
        ...(askRegistry ? { askRegistry } : {}),
      }),
    guestUp: async () => {},
    guestPrints: async () => {},
    guestEnds: async (id) => flintlockd.exitGuest(flintlockd.machine(id).uid),
    kill: async (id) => flintlockd.exitGuest(flintlockd.machine(id).uid),
    lose: async (id) => flintlockd.removeLease(flintlockd.machine(id).uid),
    aSpec: (change) => ({ id: newMachineId(), size, image: publishedImage, link: aLink, ...change }),
    makeBehind,
    // Its answer may be one of those that are lost.
    leaveHalfMade: async (id) => void (await makeBehind({ id }).catch(() => {})),
    runningCount: async (id) => ofId(id).filter(({ alive }) => alive).length,
    leftovers: async (id) => ofId(id).map(({ uid, state }) => `${uid} is ${state}`),
    dispose: async () => void (await flintlockd[Symbol.asyncDispose]()),
  };
}
