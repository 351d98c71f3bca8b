/** What the metrics read of the running program at a scrape, handed to them by the composition. Undefined: it is not there, or not known yet. */
import type { MachineState, RunnerState } from "../../domain/states.ts";
import type { Figures } from "../../views/figures.ts";

export interface MetricsReads {
  readonly version: string;
  figures(): Promise<Figures>;
  machines(): Promise<readonly { readonly driver: string; readonly state: MachineState }[]>;
  /** Of machines that pools may ask for. */
  drivers(): Iterable<string>;
  /** Names of the pools of the configuration. */
  configuredPools(): Iterable<string>;
  webhooks(): Promise<WebhookFigures | undefined>;
  caches(): Promise<CacheFigures>;
  relay(): { readonly machines: number; readonly heldBytes: number };
  /** The volume of the state directory. */
  stateDisk(): Promise<{ readonly freeBytes: number; readonly sizeBytes: number }>;
  /** When the certificates in use end (epoch ms), by what shows them. */
  certificates(): Readonly<Partial<Record<"http" | "metrics" | "relay", number | undefined>>>;
}

/** Of jobs by tag. Counts are since the start of the program, times epoch ms. */
export interface WebhookFigures {
  readonly budget: { readonly limit: number; readonly remaining: number } | undefined;
  readonly tokenExpiresAt: number | undefined;
  readonly deliveries: {
    readonly taken: number;
    readonly duplicate: number;
    readonly unreadable: number;
    readonly failed: number;
    readonly refused: number;
  };
  readonly lastDeliveryAt: number | undefined;
  readonly missed: number;
  /** Hooks that lead here and do not work. */
  readonly brokenHooks: number;
  readonly runners: readonly { readonly state: RunnerState }[];
  readonly projects: { readonly watched: number; readonly due: number };
}

interface CacheUse {
  readonly usedBytes: number;
  readonly evictableBytes: number;
}

export interface CacheFigures {
  readonly images: CacheUse | undefined;
  readonly jobs: CacheUse | undefined;
}
