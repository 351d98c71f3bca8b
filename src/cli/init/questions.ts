import type { Asker } from "./asker.ts";
import type { SetupDesk } from "./setup-desk.ts";

/** Who is asked, who judges the answers, and how long. */
export interface Questions {
  readonly asker: Asker;
  readonly desk: SetupDesk;
  readonly signal: AbortSignal;
}
