/** What a machine is told when it asks for its boot data, and which authorities it is to trust. */
import { systemClock } from "../base/clock.ts";
import { describeError } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import { certificatesIn, MOST_AUTHORITIES_BYTES } from "../base/tls.ts";
import { readTrusted } from "../base/trusted-file.ts";
import { CACHE_BUCKET } from "../cache/request.ts";
import type { Config } from "../config/load.ts";
import { RELAY_IN_GUEST } from "../domain/drivers.ts";
import type { Pool } from "../domain/pool.ts";
import { renderBootData } from "../guest/boot.ts";
import { type RelaySettings, runnerLogLimitKib } from "../relay/config.ts";
import type { MachineStore } from "../store/store.ts";
import type { JobContainers } from "./job-containers.ts";

/** Machines listen nowhere; this is where they find the relay (see vm/local). */
const GUEST_PROXY = `http://${RELAY_IN_GUEST}:80`;

/** A guest reads its boot data byte by byte; two authorities have some 4 KiB. */
const MOST_BYTES = 32 * 1024;

export interface BootDataDeps {
  readonly store: Pick<MachineStore, "machine" | "machineToken">;
  readonly pools: () => ReadonlyMap<string, Pool>;
  readonly relay: RelaySettings;
  readonly authorities: GuestAuthorities;
  readonly containers: Pick<JobContainers, "bootOf">;
  /** Whether caches are kept. */
  readonly hasCaches: boolean;
}

/** Returns what gives a machine its boot data: undefined for one that is not known, or that is being removed. */
export function bootDataFrom({ store, pools, relay, authorities, containers, hasCaches }: BootDataDeps) {
  return async (machineId: string): Promise<string | undefined> => {
    const machine = await store.machine(machineId);
    if (!machine || machine.state === "stopping" || machine.state === "gone") return undefined;
    const pool = pools().get(machine.pool);
    const mode = pool?.egress.mode ?? "none";
    const disks = await containers.bootOf(machine);
    return renderBootData({
      machineId,
      token: store.machineToken(machineId),
      nowMs: systemClock.now(),
      executor: disks === undefined ? "shell" : "docker",
      containers: disks,
      engine: pool?.containers.engine,
      runnerSettings: pool?.runnerSettings,
      proxy: mode === "none" ? undefined : GUEST_PROXY,
      cacheBucket: hasCaches ? CACHE_BUCKET : undefined,
      logLimitKib: runnerLogLimitKib(relay),
      authorities: await authorities.pem(),
    });
  };
}

/** The authorities that machines trust besides those of their image. */
export interface GuestAuthorities {
  /** PEM, certificates alone; undefined when there are none. Read anew each time, so that renewed files reach the next machine. */
  pem(): Promise<string | undefined>;
}

/** `guests.caFile` first, then what FireRunner itself trusts: each as a whole, as far as all fit. */
export function createGuestAuthorities(
  { guests, gitlab, proxy }: Pick<Config, "guests" | "gitlab" | "proxy">,
  log: Pick<Log, "warn">,
): GuestAuthorities {
  const files = Object.entries({
    "guests.caFile": guests.caFile,
    "gitlab.caFile": gitlab.caFile,
    "proxy.caFile": proxy.caFile,
  });
  const lastGood = new Map<string, readonly string[]>();
  const told = new Set<string>();

  function warnOnce(why: string): void {
    if (told.has(why)) return;
    told.add(why);
    log.warn({ why }, "machines do not get all certificate authorities");
  }

  async function certificatesOf(key: string, path: string | undefined): Promise<readonly string[]> {
    if (path === undefined) return [];
    try {
      const bytes = await readTrusted(path, { maxBytes: MOST_AUTHORITIES_BYTES, secret: false });
      const certificates = certificatesIn(bytes.toString("utf8")).map((each) => each.toString());
      lastGood.set(key, certificates);
      return certificates;
    } catch (error) {
      warnOnce(`${key}: ${describeError(error)}`);
      return lastGood.get(key) ?? [];
    }
  }

  return {
    async pem() {
      let all: readonly string[] = [];
      for (const [key, path] of files) {
        const more = [...new Set([...all, ...(await certificatesOf(key, path))])];
        if (more.join("").length > MOST_BYTES) {
          warnOnce(
            `${key} is too large to be given to machines: name the private authorities alone in guests.caFile`,
          );
          continue;
        }
        all = more;
      }
      return all.length === 0 ? undefined : all.join("");
    },
  };
}
