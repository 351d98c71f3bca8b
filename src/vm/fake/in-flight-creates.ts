import type { ExitKind, MachineSpec, RelayLink } from "../driver.ts";
import { VmError } from "../errors.ts";
import type { CreateFault, FakeHost } from "./host.ts";

/** The creates under way of one driver: at most one per machine. */
export interface InFlightCreates {
  /** Joins the one under way for this machine, if there is one. */
  create(spec: MachineSpec, signal: AbortSignal): Promise<void>;
  /** Ends the create under way, if there is one, and waits for its end. */
  stop(id: string): Promise<void>;
  isUnderWay(id: string): boolean;
}

export function createInFlightCreates(
  host: FakeHost,
  closed: AbortSignal,
  wantsLink: boolean,
): InFlightCreates {
  const underWay = new Map<string, { done: Promise<void>; abort: AbortController }>();

  async function make(spec: MachineSpec, signal: AbortSignal): Promise<void> {
    const fault = host.faults.create?.(spec) ?? {};
    signal.throwIfAborted();
    const link = wantsLink ? await linkOf(spec) : undefined;
    host.leaveHalfMade(spec.id);
    if (fault.isUnanswered) host.start(spec, link);
    await suffer(fault, signal);
    host.start(spec, link);
    if (fault.dieAfterMs !== undefined) endAfter(spec.id, fault.dieAfterMs, fault.exit ?? "killed");
  }

  async function suffer(fault: CreateFault, signal: AbortSignal): Promise<void> {
    if (fault.hang || fault.isUnanswered) await aborted(signal);
    if (fault.delayMs !== undefined) await host.clock.sleep(fault.delayMs, signal);
    if (fault.fail) throw fault.fail;
  }

  function endAfter(id: string, ms: number, exit: ExitKind): void {
    void host.clock.sleep(ms).then(() => host.end(id, exit));
  }

  async function create(spec: MachineSpec, signal: AbortSignal): Promise<void> {
    const other = underWay.get(spec.id);
    if (other) return await other.done;
    const abort = new AbortController();
    const done = make(spec, AbortSignal.any([signal, abort.signal, closed])).catch((cause: unknown) => {
      if (cause instanceof VmError) throw cause;
      const message = `creating machine ${spec.id} was stopped`;
      throw new VmError("vm_create_failed", message, { cause, retryable: true });
    });
    underWay.set(spec.id, { done, abort });
    await done.finally(() => underWay.delete(spec.id));
  }

  return {
    create,
    stop: async (id) => {
      const create = underWay.get(id);
      create?.abort.abort();
      await create?.done.catch(() => {});
    },
    isUnderWay: (id) => underWay.has(id),
  };
}

async function linkOf({ id, link }: MachineSpec): Promise<RelayLink> {
  if (!link) throw new VmError("vm_bad_spec", `machine ${id} has no way to the relay`);
  return await link();
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}
