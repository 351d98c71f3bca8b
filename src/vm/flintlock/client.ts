/**
 * The calls of one host. `createFlintlockClient` sticks to the address that works and goes on to the next from one that does not;
 * `guardClient` leaves a host alone that failed several times in a row.
 */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Clock } from "../../base/clock.ts";
import { SECOND_MS } from "../../base/units.ts";
import type { HostProblem } from "../driver.ts";
import { VmError } from "../errors.ts";
import { type Attempt, type Channel, createChannel } from "./channel.ts";
import type { FlintlockHost } from "./config.ts";
import { FlintlockError, hostFailure } from "./errors.ts";
import type { ListedMicroVM } from "./gen/service_pb.js";
import type { MicroVM, MicroVMSpec, MicroVMSpecSchema } from "./gen/types_pb.js";

const FAILURES_TO_OPEN = 3;
const FIRST_PAUSE_MS = 2 * SECOND_MS;
const LONGEST_PAUSE_MS = 30 * SECOND_MS;

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

interface ClientDeps {
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

export interface GuardedClient extends FlintlockClient {
  /** What the last call failed with, if the host itself was the reason. */
  trouble(): HostProblem | undefined;
}

/**
 * Leaves a host alone that failed several times in a row: calls then fail at once, without the network. After a pause one call tries
 * again; the pauses grow while it goes on failing.
 */
export function guardClient(client: FlintlockClient, host: string, clock: Clock): GuardedClient {
  let last: FlintlockError | undefined;
  const breaker = createBreaker(clock);

  async function call<T>(work: () => Promise<T>): Promise<T> {
    const settle = breaker.begin();
    if (settle === undefined) throw leftAlone(host, last);
    try {
      const value = await work();
      last = undefined;
      settle("well");
      return value;
    } catch (error) {
      last = troubleAfter(error);
      settle(isOfHost(error) ? "failed" : "well");
      throw error;
    }
  }

  /** An answer that is an error comes from a host that is well; what was called off on our side says nothing of it. */
  function troubleAfter(error: unknown): FlintlockError | undefined {
    if (isOfHost(error)) return error;
    return error instanceof FlintlockError ? undefined : last;
  }

  return {
    create: (...args) => call(() => client.create(...args)),
    delete: (...args) => call(() => client.delete(...args)),
    list: (...args) => call(() => client.list(...args)),
    reconnectedAt: client.reconnectedAt,
    close: client.close,
    trouble: () => last && { problem: last.message, hint: last.hint },
  };
}

interface Breaker {
  /** Returns what is to be told of the call's end; undefined when no call may be made now. */
  begin(): ((how: "well" | "failed") => void) | undefined;
}

/** Closed, it lets every call through; open, none; and after a pause a single one, by which it closes or stays open for longer. */
function createBreaker(clock: Clock): Breaker {
  let failures = 0;
  let pauses = 0;
  let openUntil: number | undefined;
  let isTrying = false;

  function open(): void {
    openUntil = clock.now() + Math.min(FIRST_PAUSE_MS * 2 ** pauses, LONGEST_PAUSE_MS);
    pauses += 1;
  }

  function settleTrial(how: "well" | "failed"): void {
    isTrying = false;
    if (how === "failed") {
      open();
      return;
    }
    openUntil = undefined;
    pauses = 0;
    failures = 0;
  }

  function settle(how: "well" | "failed"): void {
    failures = how === "failed" ? failures + 1 : 0;
    // Calls that were under way when it opened fail together with the one that opened it.
    if (failures >= FAILURES_TO_OPEN && openUntil === undefined) open();
  }

  return {
    begin() {
      if (openUntil === undefined) return settle;
      if (isTrying || clock.now() < openUntil) return undefined;
      isTrying = true;
      return settleTrial;
    },
  };
}

function leftAlone(host: string, last: FlintlockError | undefined): FlintlockError {
  const hint = last?.hint ?? "it is asked again after some seconds";
  const failure = hostFailure("vm_host_avoided", "it is left alone for some seconds", hint);
  const message = `the host ${host} is left alone for some seconds after it failed several times`;
  return new FlintlockError(failure, message, { cause: last, mayHaveWorked: false });
}
