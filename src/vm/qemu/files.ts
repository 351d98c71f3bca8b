import { join } from "node:path";

/**
 * What lies in a machine's directory. Root owns the directory and the machine's user may only look: a hypervisor that was
 * taken over cannot replace a file that this program writes to. It has `run` to itself.
 */
export interface MachineFiles {
  readonly directory: string;
  readonly relay: string;
  readonly console: string;
  readonly scratch: string;
  /** What the hypervisor itself has to say. */
  readonly log: string;
  readonly run: string;
  readonly qmp: string;
  /** How the machine ended, once that is known. */
  readonly exit: string;
}

/** Names that the hypervisor, whose working directory is the machine's, uses: short whatever the state directory. */
export const inside = {
  relay: "relay.sock",
  console: "console.log",
  scratch: "scratch.img",
  qmp: "run/qmp.sock",
} as const;

/** The longest path of a unix socket, without its closing zero byte. */
const SOCKET_PATH_BYTES = 107;

export function machineFiles(machines: string, id: string): MachineFiles {
  const directory = join(machines, id);
  return {
    directory,
    relay: join(directory, inside.relay),
    console: join(directory, inside.console),
    scratch: join(directory, inside.scratch),
    log: join(directory, "qemu.log"),
    run: join(directory, "run"),
    qmp: join(directory, inside.qmp),
    exit: join(directory, "exit"),
  };
}

/** How many bytes the longest socket path below this directory has over what the system takes; 0 when it fits. */
export function socketPathExcess(machines: string): number {
  const { relay, qmp } = machineFiles(machines, "fr-aaaaaaaa");
  const longest = Math.max(Buffer.byteLength(relay), Buffer.byteLength(qmp));
  return Math.max(0, longest - SOCKET_PATH_BYTES);
}
