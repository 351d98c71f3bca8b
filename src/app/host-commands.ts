/** What people may ask of hosts: draining, its undoing, and forgetting one that is gone for good. */

import { hostKey } from "../domain/placement.ts";
import type { Scheduler } from "../scheduler/scheduler.ts";
import { HttpError } from "../server/errors.ts";
import type { HostPorts } from "../server/routes/ports.ts";
import type { HostStore, MachineStore } from "../store/store.ts";
import type { Fleet } from "../vm/driver.ts";

export interface HostCommandsDeps {
  readonly fleet: Pick<Fleet, "hosts">;
  readonly store: Pick<HostStore, "drainHost" | "resumeHost" | "drainedHosts"> &
    Pick<MachineStore, "machines">;
  readonly scheduler: Pick<Scheduler, "wake" | "forgetMachine">;
  /** Whether a host is there only until its last machine is gone. */
  readonly isLeaving: (key: string) => boolean;
  /** Jobs may be claimed that had no room before. */
  readonly onCapacity: () => void;
}

export function createHostCommands({
  fleet,
  store,
  scheduler,
  isLeaving,
  onCapacity,
}: HostCommandsDeps): Omit<HostPorts, "tryHost"> {
  /** The keys that a name stands for: `local` is this computer with all its drivers. */
  function found(name: string): string[] {
    const named = [...fleet.hosts()].filter(([key, driver]) => key === name || driver.host === name);
    return named.map(([key]) => key);
  }

  function keysOf(name: string): string[] {
    const keys = found(name);
    if (keys.length > 0) return keys;
    const names = [...new Set([...fleet.hosts().values()].map(({ host }) => host))];
    throw new HttpError("not_found", `there is no host “${name}” here`, {
      hint: `Hosts are: ${names.join(", ")}. “firerunner hosts” lists them.`,
    });
  }

  return {
    async drain(name) {
      for (const key of keysOf(name)) await store.drainHost(key);
      return [`nothing new is started on ${name}; its machines go on`];
    },
    async resume(name) {
      for (const key of keysOf(name)) await store.resumeHost(key);
      scheduler.wake("a host was resumed");
      onCapacity();
      return [`machines are started on ${name} again`];
    },
    async forget(name) {
      if (found(name).some((key) => !isLeaving(key))) {
        const words = `${name} is configured: it is not forgotten while it may come back`;
        throw new HttpError("conflict", words, {
          hint: "take it out of vm.flintlock.hosts, reload, and forget it then",
        });
      }
      const machines = (await store.machines({ live: true })).filter(
        (machine) => machine.host === name || hostKey(machine) === name,
      );
      for (const machine of machines)
        await scheduler.forgetMachine(machine.id, `its host ${name} is gone for good`);
      for (const key of await store.drainedHosts())
        if (key === name || key.endsWith(`/${name}`)) await store.resumeHost(key);
      return [`${name} is forgotten, with ${machines.length} machines that were there`];
    },
  };
}
