/** What the control interface needs of modules that it must not know. */
import type { ManagedRunner } from "../../store/runner-store.ts";
import type { DaemonStatus, Views } from "../../views/api.ts";
import type { WaitingView, WebhookStatusView, WebhookViews } from "../../views/webhook-api.ts";
import type { Readiness } from "../public/webhook-route.ts";
import type { HostPorts } from "./host-routes.ts";

export interface ControlPorts {
  status(): DaemonStatus | Promise<DaemonStatus>;
  /** What an unfinished job waits for, in words, as far as the store does not know it. */
  explain(jobId: number): Promise<readonly string[]>;
  /** The last bytes of a machine's console as text. */
  console(machineId: string, maxBytes: number): Promise<string>;
  /** Its console from now on, until the signal aborts or the machine is gone. */
  followConsole(machineId: string, signal: AbortSignal): AsyncIterable<string>;
  drain(): void | Promise<void>;
  resume(): void | Promise<void>;
  /** Reads the configuration again. Returns what changed, in words; throws when it cannot be used. */
  reload(): Promise<readonly string[]>;
  readonly hosts: HostPorts;
  /** The public server; undefined when `http.listen` names nothing. */
  readonly publicServer?: PublicServerPorts | undefined;
  /** Jobs by tag; undefined when the configuration has no `webhook`. */
  readonly webhook?: WebhookPorts | undefined;
}

export interface PublicServerPorts {
  /** Where it listens now, as addresses people can use: `https://0.0.0.0:8443`. */
  addresses(): readonly string[];
  readiness(): Readiness | Promise<Readiness>;
}

export interface WebhookPorts {
  status(): WebhookStatusView | Promise<WebhookStatusView>;
  /** Jobs that wait in GitLab for a machine of ours, oldest first. */
  waiting(): readonly WaitingView[];
  /** Why a job that waits in GitLab has not been claimed, in words; empty when the rooms know nothing of it. */
  explainPending(jobId: number): Promise<readonly string[]>;
  /** The runner keeper, as far as people may ask something of it. */
  readonly runners: {
    create(tags: readonly string[]): Promise<ManagedRunner>;
    retire(keyOrId: string): Promise<ManagedRunner>;
    prune(): Promise<readonly string[]>;
  };
}

export interface RouteDeps {
  readonly views: Views & WebhookViews;
  readonly ports: ControlPorts;
  /** Aborts when the server closes: ends every console that is followed. */
  readonly closing: AbortSignal;
}
