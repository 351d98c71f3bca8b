import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Clock } from "../../base/clock.ts";
import { VmError } from "../errors.ts";
import { type Attempt, type Channel, createChannel } from "./channel.ts";
import { FlintlockError } from "./errors.ts";
import type { ListedMicroVM } from "./gen/service_pb.js";
import type { MicroVM, MicroVMSpec, MicroVMSpecSchema } from "./gen/types_pb.js";
import type { FlintlockHost } from "./host.ts";

/** What to make, in flintlockd's words. */
export type MicroVmRequest = Exclude<MessageInitShape<typeof MicroVMSpecSchema>, MicroVMSpec>;

export interface ListQuery {
  /** Empty: all namespaces. */
  readonly namespace: string;
  readonly name?: string;
}

/** The calls of one host. Each has a deadline; what they throw is a VmError, or the reason of their signal. */
export interface FlintlockClient {
  /** Never repeated: flintlockd would make two machines. `secrets` are kept out of every message. */
  create(request: MicroVmRequest, secrets: readonly string[], signal: AbortSignal): Promise<MicroVM>;
  /** Never repeated either. Resolves when the machine is marked. */
  delete(uid: string, signal: AbortSignal): Promise<void>;
  list(query: ListQuery, signal: AbortSignal): Promise<readonly ListedMicroVM[]>;
  /** When the daemon was last found again after it had been away; undefined while it never was. */
  reconnectedAt(): number | undefined;
  close(): void;
}

export interface ClientDeps {
  readonly host: FlintlockHost;
  readonly clock: Clock;
  readonly callTimeoutMs: number;
}

type Call<T> = Omit<Attempt<T>, "limitMs" | "connectLimitMs">;

export function createFlintlockClient({ host, clock, callTimeoutMs }: ClientDeps): FlintlockClient {
  const channels = host.addresses.map((address) => createChannel(address, host, clock));
  const token = host.token?.reveal();
  const always = token === undefined ? [] : [token, Buffer.from(token).toString("base64")];
  const connectLimitMs = channels.length > 1 ? callTimeoutMs / 2 : callTimeoutMs;
  let chosen = 0;

  function leave(at: number): void {
    if (chosen === at) chosen = (at + 1) % channels.length;
  }

  /** Sticks to the address that works; from one that does not it goes on to the next. */
  async function call<T>(wanted: Call<T>, triesLeft = channels.length - 1): Promise<T> {
    const at = chosen;
    try {
      const limits = { limitMs: callTimeoutMs, connectLimitMs };
      const secrets = [...always, ...wanted.secrets];
      return await (channels[at] as Channel).call({ ...wanted, ...limits, secrets });
    } catch (error) {
      if (!isOfHost(error)) throw error;
      leave(at);
      if (triesLeft === 0 || !(wanted.isRepeatable || !error.mayHaveWorked)) throw error;
    }
    return await call(wanted, triesLeft - 1);
  }

  return {
    async create(microvm, secrets, signal) {
      const { microvm: made } = await call({
        doing: `creating machine ${microvm.id}`,
        secrets,
        signal,
        isRepeatable: false,
        work: (calls, ends) => calls.createMicroVM({ microvm }, { signal: ends }),
      });
      if (made) return made;
      throw new VmError(
        "vm_host_refused",
        `the host ${host.name} made machine ${microvm.id} and does not show it`,
        {
          hint: "look at flintlockd's version: 0.11 is the one that is known",
          retryable: true,
        },
      );
    },
    delete: (uid, signal) =>
      call({
        doing: `deleting the machine with uid ${uid}`,
        secrets: [],
        signal,
        isRepeatable: false,
        work: async (calls, ends) => void (await calls.deleteMicroVM({ uid }, { signal: ends })),
      }),
    list: (query, signal) =>
      call({
        doing: "listing its machines",
        secrets: [],
        signal,
        isRepeatable: true,
        work: async (calls, ends) => (await calls.listMicroVMs(query, { signal: ends })).microvm,
      }),
    reconnectedAt() {
      const times = channels.flatMap((channel) => channel.reconnectedAt() ?? []);
      return times.length === 0 ? undefined : Math.max(...times);
    },
    close() {
      for (const channel of channels) channel.close();
    },
  };
}

function isOfHost(error: unknown): error is FlintlockError {
  return error instanceof FlintlockError && error.about === "host";
}
