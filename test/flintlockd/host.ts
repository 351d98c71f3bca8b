import { MicroVMStatus_State as State } from "../../src/vm/flintlock/gen/types_pb.js";
import { type Content, createContent } from "./content.ts";
import type { Settings } from "./options.ts";
import { createProcesses, type Processes } from "./processes.ts";

/** What stays when the daemon goes: containerd's content and images, and the machines' processes. */
export interface Host {
  readonly settings: Settings;
  readonly content: Content;
  readonly processes: Processes;
  readonly images: Set<string>;
  /** Its daemons' calls are then all answered with an error. */
  isContainerdDown: boolean;
}

export function createHost(settings: Settings): Host {
  return {
    settings,
    content: createContent(),
    processes: createProcesses(settings.onBoot),
    images: new Set(settings.localImages),
    isContainerdDown: false,
  };
}

/** A machine as it truly is on the host. */
export interface StandInMachine {
  readonly uid: string;
  /** Empty, with a process only: the daemon's store has lost it. */
  readonly id: string;
  readonly namespace: string;
  readonly state: keyof typeof State | "LOST";
  readonly retry: number;
  readonly version: number;
  /** Its process runs. */
  readonly alive: boolean;
  /** Starts of its process on this disk. */
  readonly boots: number;
  readonly metadata: Readonly<Record<string, string>>;
  /** firecracker.stderr, which only the host has. */
  readonly stderr: string;
}

/** Those that the store knows and those of which there is a process or a disk. */
export function machinesOf({ content, processes }: Host): StandInMachine[] {
  const uids = new Set([...content.all().map(({ uid }) => uid), ...processes.uids()]);
  return [...uids].map((uid) => {
    const { boots, stderr, metadata } = processes.facts(uid);
    const alive = processes.isAlive(uid);
    const stored = content.get(uid);
    if (!stored) {
      const lost = { id: "", namespace: "", state: "LOST", retry: 0, version: 0 } as const;
      return { uid, ...lost, alive, boots, metadata, stderr };
    }
    const { spec, retry, version } = stored;
    const { id, namespace } = spec;
    const state = State[stored.state] as keyof typeof State;
    return { uid, id, namespace, state, retry, version, alive, boots, metadata, stderr };
  });
}

/** Nothing of any machine is left. */
export async function wipe({ content, processes }: Host): Promise<void> {
  await Promise.all(processes.uids().map(processes.destroy));
  content.clear();
}
