/**
 * The drivers there are, as data: what everybody may know of one without starting it. The configuration's choices, `auto`, cross-checks,
 * doctor and docs follow from this table; what makes a driver of a row is in vm/drivers.ts, which has one record for each.
 */

export interface DriverInfo {
  /** `local`: machines are processes of this computer. `remote`: they are on hosts of their own, which come to the relay over the network. */
  readonly locality: "local" | "remote";
  /** The order in which `auto` tries local drivers; undefined for one that is only taken by its name. */
  readonly rank: number | undefined;
  /** The setting that names its hosts, as a path; undefined for this computer. */
  readonly hostsSetting: readonly string[] | undefined;
}

const table = {
  // One row for each folder of vm/ that is a driver.
  qemu: { locality: "local", rank: 1, hostsSetting: undefined },
  flintlock: { locality: "remote", rank: undefined, hostsSetting: ["vm", "flintlock", "hosts"] },
  fake: { locality: "local", rank: undefined, hostsSetting: undefined },
} as const satisfies Readonly<Record<string, DriverInfo>>;

export type DriverName = keyof typeof table;
export type LocalDriverName = {
  [Name in DriverName]: (typeof table)[Name]["locality"] extends "local" ? Name : never;
}[DriverName];

const drivers: Readonly<Record<DriverName, DriverInfo>> = table;

export const driverNames = Object.keys(table) as readonly DriverName[];

/** Where every driver's guests find the relay. Nothing listens there: it is each driver's to lead it to the machine's own socket or link. */
export const RELAY_IN_GUEST = "10.0.2.100";

/** The driver that `auto` stands for. */
export function preferredDriver(): DriverName {
  const ranked = driverNames.filter((name) => drivers[name].rank !== undefined);
  const [first] = ranked.toSorted((a, b) => (drivers[a].rank ?? 0) - (drivers[b].rank ?? 0));
  if (first === undefined) throw new Error("no driver has a rank");
  return first;
}

export function isRemoteDriver(name: string): boolean {
  return infoOf(name)?.locality === "remote";
}

export const localDrivers = driverNames.filter(
  (name): name is LocalDriverName => drivers[name].locality === "local",
);

/** Those whose hosts are configured, with the setting that names them. */
export const remoteDrivers: readonly {
  readonly name: DriverName;
  readonly hostsSetting: readonly string[];
}[] = driverNames.flatMap((name) => {
  const { hostsSetting } = drivers[name];
  return hostsSetting === undefined ? [] : [{ name, hostsSetting }];
});

/** The path of the setting that names the hosts of flintlockd, for messages about it. */
export const flintlockHosts: readonly string[] = table.flintlock.hostsSetting;

/** `vm.flintlock.hosts`; undefined for a driver of this computer, and for one that is not known. */
export function hostsSettingOf(name: string): string | undefined {
  return infoOf(name)?.hostsSetting?.join(".");
}

function infoOf(name: string): DriverInfo | undefined {
  return (drivers as Readonly<Record<string, DriverInfo>>)[name];
}
