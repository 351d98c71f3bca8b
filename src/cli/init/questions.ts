import type { SetupChecks } from "../../operations/setup/ports.ts";
import type { Prompter } from "./prompter.ts";

/** Who is asked, who judges the answers, and how long. */
export interface Questions {
  readonly asker: Prompter;
  readonly desk: SetupChecks;
  readonly signal: AbortSignal;
}
