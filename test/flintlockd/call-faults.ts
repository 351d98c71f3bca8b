import type { Code } from "@connectrpc/connect";
import type { CallKind } from "./wire.ts";

/** What can befall one call on its way. */
export type CallFault =
  /** Nothing is done and nothing answered. */
  | { readonly fault: "hang" }
  /** The answer comes this much later (not scaled); the work is done at once, or only then. */
  | { readonly fault: "late"; readonly ms: number; readonly work: "at once" | "then" }
  /** The connection ends without an answer, with the work done or not. */
  | { readonly fault: "drop"; readonly work: "done" | "not done" }
  | { readonly fault: "refuse"; readonly code: Code; readonly message: string };

export interface CallFaults {
  /** The next calls of a kind, one fault each. */
  next(kind: CallKind, ...faults: CallFault[]): void;
  /** Every call of a kind, until it is taken away with undefined. */
  always(kind: CallKind, fault: CallFault | undefined): void;
  take(kind: CallKind): CallFault | undefined;
}

export function createCallFaults(): CallFaults {
  const once = new Map<CallKind, CallFault[]>();
  const lasting = new Map<CallKind, CallFault>();
  return {
    next: (kind, ...faults) => void once.set(kind, [...(once.get(kind) ?? []), ...faults]),
    always(kind, fault) {
      if (fault) lasting.set(kind, fault);
      else lasting.delete(kind);
    },
    take: (kind) => once.get(kind)?.shift() ?? lasting.get(kind),
  };
}
