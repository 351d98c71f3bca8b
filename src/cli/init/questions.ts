import type { SetupDesk } from "../../operations/setup/setup-checks.ts";
import type { Asker } from "./asker.ts";

/** Who is asked, who judges the answers, and how long. */
export interface Questions {
  readonly asker: Asker;
  readonly desk: SetupDesk;
  readonly signal: AbortSignal;
}
