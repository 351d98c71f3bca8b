import type { Code } from "@connectrpc/connect";

/** What can befall one call on its way. */
export type CallFault =
  /** Nothing is done and nothing answered. */
  | { readonly fault: "hang" }
  /** The answer comes this much later (not scaled); the work is done at once, or only then. */
  | { readonly fault: "late"; readonly ms: number; readonly work: "at once" | "then" }
  /** The connection ends without an answer, with the work done or not. */
  | { readonly fault: "drop"; readonly work: "done" | "not done" }
  | { readonly fault: "refuse"; readonly code: Code; readonly message: string };
