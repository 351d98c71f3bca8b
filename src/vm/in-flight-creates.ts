import type { MachineSpec } from "./driver.ts";
import { VmError } from "./errors.ts";

/** The creates under way of one host: at most one for each machine. */
export interface InFlightCreates {
  /** Joins the one under way for this machine, if there is one. */
  create(spec: MachineSpec, signal: AbortSignal): Promise<void>;
  /** Has the one under way given up, if there is one, and waits for its end. The host may go on making the machine. */
  stop(id: string): Promise<void>;
  isUnderWay(id: string): boolean;
  count(): number;
  settled(): Promise<void>;
}

export function createInFlightCreates(
  make: (spec: MachineSpec, signal: AbortSignal) => Promise<void>,
  closed: AbortSignal,
): InFlightCreates {
  const underWay = new Map<string, { readonly done: Promise<void>; readonly ends: AbortController }>();

  async function create(spec: MachineSpec, signal: AbortSignal): Promise<void> {
    const other = underWay.get(spec.id);
    if (other) return await other.done;
    const ends = new AbortController();
    const done = makeOnce(spec, AbortSignal.any([signal, ends.signal, closed]));
    underWay.set(spec.id, { done, ends });
    await done.finally(() => underWay.delete(spec.id));
  }

  async function makeOnce(spec: MachineSpec, signal: AbortSignal): Promise<void> {
    try {
      signal.throwIfAborted();
      await make(spec, signal);
    } catch (error) {
      if (!signal.aborted) throw error;
      throw new VmError("vm_create_failed", `creating machine ${spec.id} was stopped`, {
        cause: error,
        retryable: true,
      });
    }
  }

  return {
    create,
    async stop(id) {
      const create = underWay.get(id);
      create?.ends.abort(new Error("the machine is not wanted any more"));
      await create?.done.catch(() => {});
    },
    isUnderWay: (id) => underWay.has(id),
    count: () => underWay.size,
    settled: async () => void (await Promise.allSettled([...underWay.values()].map(({ done }) => done))),
  };
}
