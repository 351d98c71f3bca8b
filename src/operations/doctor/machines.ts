/**
 * Whether machines can run: of each pool, and of each kind that tags of jobs can choose. And how many of each pool there is room for, and
 * whether it is disk that allows no more.
 */
import { systemClock } from "../../base/clock.ts";
import { silentLog } from "../../base/log.ts";
import type { Config } from "../../config/load.ts";
import { abilitiesByImage, tagRulesOf } from "../../config/machine-kinds.ts";
import { hostsSettingOf, isRemoteDriver, remoteDrivers } from "../../domain/drivers.ts";
import { type BootImage, lackingNote, pushAgain } from "../../domain/images.ts";
import { hostKey } from "../../domain/placement.ts";
import { type Pool, poolCapacity } from "../../domain/pool.ts";
import { type Root, rootNamed } from "../../image/config.ts";
import { openImages } from "../../image/open-images.ts";
import { registryAsker } from "../../registry/holding.ts";
import type { MachineBase } from "../../scheduler/host-probes.ts";
import type { Fleet } from "../../vm/driver.ts";
import { createLocalFleet } from "../../vm/drivers.ts";
import { capacitiesOf, type HostTotals } from "../../vm/fleet.ts";
import { answer, type DoctorCheck, type Finding } from "./findings.ts";

type Wanted = Pick<
  Config,
  "gitlab" | "proxy" | "guests" | "pools" | "kinds" | "webhook" | "images" | "state" | "vm" | "hosts"
>;

/** Every image once, then every kind of machine; those alike are tried once. */
export function machineChecks(config: Wanted): DoctorCheck[] {
  const bases = [
    ...[...config.pools.values()].map((pool) => ({ name: `machines of pool ${pool.name}`, base: pool })),
    ...tagBases(config),
  ];
  const images = [...new Set(bases.map(({ base }) => base.image))];
  const tried = new Map<string, Promise<Finding>>();
  return [
    ...images.map((name) => imageCheck(config, name)),
    ...bases.map(({ name, base }) => ({
      name,
      run: answer(async (signal) => {
        const key = `${base.driver} ${base.image}`;
        const trial = tried.get(key) ?? tryMachine(config, base, signal);
        tried.set(key, trial);
        return await trial;
      }),
    })),
  ];
}

function tagBases({ webhook, kinds }: Wanted): { name: string; base: MachineBase }[] {
  if (!webhook) return [];
  const { kind, rules } = tagRulesOf(webhook, kinds, () => undefined);
  const ofRules = rules.map((rule) => ({ name: `machines of tag ${rule.tag}`, base: rule.kind ?? kind }));
  return [{ name: "machines by tag", base: kind }, ...ofRules];
}

function imageCheck(config: Wanted, name: string): DoctorCheck {
  return {
    name: `image ${name}`,
    run: answer(async (signal) => {
      const { manifest } = await openImages(() => config).verify(name, signal);
      const root = rootNamed(config.images.roots, name);
      if (root) return onRoot(name, root);
      const { kind, version } = manifest.runner;
      const message = `present and intact, with ${kind} ${version}`;
      const lacks = lackingNote({ ...manifest, name }, abilitiesByImage(config).get(name) ?? []);
      if (lacks) return { level: "warn", message: lacks.problem, hint: lacks.hint };
      if (kind !== "stand-in") return { level: "ok", message };
      const hint = "For GitLab's own runner: firerunner image build --runner official";
      return { level: "warn", message, hint };
    }),
  };
}

/** What hosts pull is theirs to tell. */
function onRoot(name: string, { root, base }: Root): Finding {
  const hint = `Whether it comes up and speaks is told by: firerunner hosts check HOST --image ${name}`;
  return { level: "ok", message: `${root}, booted by ${base}, which is intact`, hint };
}

async function tryMachine(config: Wanted, base: MachineBase, signal: AbortSignal): Promise<Finding> {
  const image = await openImages(() => config)
    .resolve(base.image)
    .catch(() => undefined);
  if (image === undefined)
    return {
      level: "fail",
      message: `the image ${base.image} cannot be booted`,
      hint: `See “image ${base.image}” above.`,
    };
  if (isRemoteDriver(base.driver)) return await onFleet(config, image, signal);
  const common = { stateDirectory: config.state, clock: systemClock, log: silentLog };
  const fleet = createLocalFleet({ ...common, settings: config.vm });
  try {
    const driver = fleet.hosts().get(base.driver);
    if (!driver) return noDriver(fleet, base);
    const probe = await driver.probe(image, signal);
    if (!probe.usable) return { level: "fail", message: probe.problem, hint: probe.hint };
    const message = `${driver.name} ${probe.version} with ${probe.accelerator}`;
    return probe.note === undefined
      ? { level: "ok", message }
      : { level: "warn", message: `${message}: ${probe.note}` };
  } finally {
    await fleet.close();
  }
}

/** A machine elsewhere is not booted here: the hosts are looked at for themselves. */
async function onFleet({ hosts, proxy }: Wanted, image: BootImage, signal: AbortSignal): Promise<Finding> {
  if (hosts.size === 0) {
    return {
      level: "fail",
      message: "no host of a fleet is configured",
      hint: "Name one in vm.flintlock.hosts.",
    };
  }
  if (image.published) {
    const { state, words } = await registryAsker({ proxies: proxy })(image.published, signal);
    if (state === "gone" || state === "locked")
      return {
        level: "fail",
        message: `hosts that do not have the image cannot pull it: ${words}`,
        hint: pushAgain,
      };
    return { level: "ok", message: `on hosts of the fleet: ${[...hosts.keys()].join(", ")}` };
  }
  const message = "the image is on this computer only, and hosts of a fleet pull it from a registry";
  return { level: "fail", message, hint: "firerunner image push REGISTRY/NAME" };
}

function noDriver(fleet: Fleet, { driver }: MachineBase): Finding {
  const names = [...new Set([...fleet.hosts().values()].map(({ name }) => name))];
  return {
    level: "fail",
    message: `there is no driver ${driver}`,
    hint: `Drivers are: ${names.join(", ")}.`,
  };
}

type CapacityConfig = Pick<Config, "pools" | "state" | "vm" | "hosts">;

/** One check for each pool. What a FireRunner that runs has promised to its machines already is not told apart. */
export function capacityChecks(config: CapacityConfig): DoctorCheck[] {
  return [...config.pools.values()].map((pool) => ({
    name: `room for pool ${pool.name}`,
    run: answer(async () => evaluateCapacity(pool, await totalsOf(config))),
  }));
}

export function evaluateCapacity(pool: Pool, hosts: readonly HostTotals[]): Finding {
  const { machines, byDisk, note } = poolCapacity(pool, hosts);
  if (note !== undefined) return { level: machines === 0 ? "fail" : "warn", message: note };
  const disk = byDisk === undefined ? "no limit by disk" : `disk for ${byDisk}`;
  const unlimited = hosts.filter(({ driver, capacity }) => driver === pool.driver && !capacity.diskMib);
  const message = `${machines} ${machines === 1 ? "machine" : "machines"} at one time, ${disk}`;
  if (!isRemoteDriver(pool.driver) || unlimited.length === 0) return { level: "ok", message };
  const names = unlimited.map(({ key }) => key.slice(key.indexOf("/") + 1)).join(", ");
  const hint = `No disk is configured for ${names}: as much is promised there as is asked for. Set ${hostsSettingOf(pool.driver)}.NAME.disk.`;
  return { level: "ok", message, hint };
}

async function totalsOf({ state, vm, hosts }: CapacityConfig): Promise<HostTotals[]> {
  const elsewhere = remoteDrivers.flatMap(({ name: driver }) =>
    [...hosts.values()].map(({ name, labels, capacity }) => ({
      ...{ labels, capacity, driver },
      key: hostKey({ driver, host: name }),
    })),
  );
  const fleet = createLocalFleet({
    stateDirectory: state,
    settings: vm,
    clock: systemClock,
    log: silentLog,
  });
  try {
    return [...(await capacitiesOf(fleet)), ...elsewhere];
  } finally {
    await fleet.close();
  }
}
