import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { BootImage } from "../lifecycle/boot-image.ts";
import type { VmConfig } from "./config.ts";
import type { VmDriver } from "./driver.ts";
import { VmError } from "./errors.ts";
import { createFakeDriver } from "./fake/driver.ts";
import { createFakeHost } from "./fake/host.ts";
import { createQemuDriver } from "./qemu/driver.ts";

export interface DriverDeps {
  readonly stateDirectory: string;
  readonly settings: VmConfig;
  readonly clock: Clock;
  readonly log: Log;
}

/** Every driver there is, one line each, by the name that pools use. */
const makers: Readonly<Record<string, (deps: DriverDeps) => VmDriver>> = {
  qemu: createQemuDriver,
  fake: ({ clock, stateDirectory }) =>
    createFakeDriver({ host: createFakeHost(clock), directory: `${stateDirectory}/fake-machines` }),
};

/** In the order of preference for `auto`. Never the fake: it runs nothing. */
const automatic: readonly string[] = ["qemu"];

export type Drivers = ReadonlyMap<string, VmDriver>;

/** All drivers by name. Making one starts nothing; close each at the end. */
export function createDrivers(deps: DriverDeps): Drivers {
  return new Map(Object.entries(makers).map(([name, make]) => [name, make(deps)]));
}

/**
 * The driver that a pool means, `auto` being the first that can run its image here. Throws `vm_unusable` with what each of
 * them lacks.
 */
export async function resolveDriver(
  drivers: Drivers,
  name: string,
  image: BootImage,
  signal: AbortSignal,
): Promise<VmDriver> {
  const problems: string[] = [];
  const hints: string[] = [];
  for (const candidate of name === "auto" ? automatic : [name]) {
    const driver = drivers.get(candidate);
    if (!driver) throw new VmError("vm_unusable", `there is no driver “${candidate}”`);
    const probe = await driver.probe(image, signal);
    if (probe.usable) return driver;
    problems.push(`${candidate}: ${probe.problem}`);
    hints.push(probe.hint);
  }
  throw new VmError("vm_unusable", `no driver can run machines here: ${problems.join("; ")}`, {
    hint: hints.join("; "),
  });
}
