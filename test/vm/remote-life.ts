import type { JobDefinition } from "../../src/ci/definition.ts";
import { freePort } from "../../src/demo/workspace.ts";
import type { BootImage } from "../../src/domain/images.ts";
import { type BootData, renderBootData } from "../../src/guest/boot.ts";
import type { RelayLink } from "../../src/vm/driver.ts";
import {
  type BenchMachine,
  createRelayBench,
  type RelayBench,
  type RelayBenchOptions,
} from "../integration/relay-bench.ts";
import { createRemoteMachine, RELAY_ADDRESS, type RemoteMachine } from "./remote-machine.ts";

export interface LifeOptions {
  readonly image: BootImage;
  readonly commandLine: (machineId: string) => Readonly<Record<string, string>>;
  /** Of the metadata service. */
  readonly documents: (machineId: string, link: RelayLink) => Readonly<Record<string, string>>;
  readonly definition: Partial<JobDefinition>;
  /** What it is told at its boot beside the usual. */
  readonly boot?: Partial<BootData>;
  readonly relay?: RelayBenchOptions["relay"];
  readonly pool?: RelayBenchOptions["pool"];
  readonly memoryMib?: number;
}

export interface Life extends AsyncDisposable {
  readonly bench: RelayBench;
  readonly machine: BenchMachine;
  readonly remote: RemoteMachine;
}

/** A claimed job and its machine, known to a real relay, ready to be booted as on another host. */
export async function prepareLife(options: LifeOptions): Promise<Life> {
  await using unfinished = new AsyncDisposableStack();
  const relayPort = await freePort();
  const bench: RelayBench = await createRelayBench({
    network: true,
    settings: { listen: [`127.0.0.1:${relayPort}`], advertise: RELAY_ADDRESS },
    ...(options.pool ? { pool: options.pool } : {}),
    relay: {
      bootData: async (machineId) => {
        const own = { machineId, token: bench.store.machineToken(machineId), nowMs: Date.now() };
        return renderBootData({ ...own, executor: "shell", logLimitKib: 4_096, ...options.boot });
      },
      ...options.relay,
    },
  });
  unfinished.defer(() => bench.close());
  const repository = { files: { "word.txt": "from git\n" } };
  const project = await bench.gitlab.projects.add({ path: "group/remote", repository });
  const machine = await bench.machine(options.definition, undefined, project);
  if (machine.link === undefined) throw new Error("no link");
  const remote = await createRemoteMachine({
    image: options.image,
    commandLine: options.commandLine(machine.id),
    documents: options.documents(machine.id, machine.link),
    relayPort,
    ...(options.memoryMib ? { memoryMib: options.memoryMib } : {}),
  });
  unfinished.use(remote);
  const finished = unfinished.move();
  return { bench, machine, remote, [Symbol.asyncDispose]: () => finished.disposeAsync() };
}
