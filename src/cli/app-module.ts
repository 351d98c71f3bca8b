import type { App, AppOptions } from "../app.ts";
import type { Log } from "../base/log.ts";
import type { Config } from "../config/load.ts";
import type { Views } from "../http/api.ts";
import type { DoctorCheck } from "./doctor/check.ts";

/** What the command line needs of the parts list. */
export interface AppModule {
  createApp(options: AppOptions): App;
  /** The program's log on standard output, and the way to change its level. */
  createLog(options: { settings: Config["log"]; terminal: boolean }): {
    readonly log: Log;
    setLevel(level: Config["log"]["level"]): void;
  };
  /** Looks into the store of a FireRunner that does not run. */
  openOfflineViews(stateDirectory: string): Promise<Views & { close(): Promise<void> }>;
  /** Checks that need the rooms: drivers, images, runner tokens. */
  doctorChecks(config: Config): readonly DoctorCheck[];
}

/** Loaded only where it is needed: looking at a running daemon should not cost the start of a whole program. */
export async function loadApp(): Promise<AppModule> {
  return await import("../app.ts");
}
