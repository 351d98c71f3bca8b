import type { App, AppOptions } from "../app.ts";
import type { Log } from "../base/log.ts";
import type { Secret } from "../base/secret.ts";
import type { CompanyProxy, Config } from "../config/load.ts";
import type { Views } from "../http/api.ts";
import type { TrialOrder, TrialStep } from "../http/trial-api.ts";
import type { WebhookViews } from "../http/webhook-api.ts";
import type { DoctorCheck } from "./doctor/check.ts";
import type { SetupDesk } from "./init/setup-desk.ts";
import type { Step } from "./webhook/step.ts";

/** A hook of GitLab's that is to lead to us. */
export interface HookRequest {
  readonly scope:
    | { readonly kind: "group" | "project"; readonly name: string }
    | { readonly kind: "instance" };
  /** The door, as GitLab reaches it. */
  readonly url: string;
  /** What the FireRunner of this computer has received since then (epoch ms); undefined when none runs. */
  arrivals(since: number): Promise<readonly { readonly event: string }[] | undefined>;
  readonly signal: AbortSignal;
}

/** The FireRunner that runs on the same state directory. */
export interface RunningFireRunner {
  /** Where it listens, as bound: `https://0.0.0.0:8443`. */
  readonly doors: readonly string[];
}

/** What the command line needs of the parts list. */
export interface AppModule {
  createApp(options: AppOptions): App;
  /** The program's log on standard output, and the way to change its level. */
  createLog(options: { settings: Config["log"]; terminal: boolean }): {
    readonly log: Log;
    setLevel(level: Config["log"]["level"]): void;
  };
  /** Looks into the store of a FireRunner that does not run. */
  openOfflineViews(stateDirectory: string): Promise<Views & WebhookViews & { close(): Promise<void> }>;
  /** Creates or repairs the hook with the configuration's API token, and tries it: each step as it is done. */
  installConfiguredHook(
    config: Config,
    webhook: NonNullable<Config["webhook"]>,
    request: HookRequest,
  ): AsyncIterable<Step>;
  /** `whsec_…`, in the one form that GitLab takes. */
  newSigningKey(): Secret;
  /** The `webhook-signature` of a delivery. */
  signDelivery(key: Secret, delivery: { id: string; timestamp: number; body: string }): string;
  /** Judges what an operator says about a GitLab. */
  createSetupDesk(proxy: CompanyProxy): SetupDesk;
  /** The trial of a host while no FireRunner runs: this process is one for so long. */
  tryHostAlone(
    config: Config,
    order: TrialOrder,
    options: { readonly log: Log; readonly signal: AbortSignal; readonly version: string },
  ): AsyncIterable<TrialStep>;
  /** Checks that need the rooms: drivers, images, tokens, hooks, the door. `running`: undefined when no FireRunner runs. */
  doctorChecks(config: Config, running?: RunningFireRunner): readonly DoctorCheck[];
}

/** Loaded only where it is needed: looking at a running daemon should not cost the start of a whole program. */
export async function loadApp(): Promise<AppModule> {
  return await import("../app.ts");
}
