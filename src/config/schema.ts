import { z } from "zod";
import { ProxySettings } from "../base/proxy/config.ts";
import { ClaimingConfig } from "../claiming/config.ts";
import { WebhookConfig } from "../discovery/config.ts";
import { Pool } from "../domain/config.ts";
import { GitLabConfig } from "../gitlab/config.ts";
import { GuestsConfig } from "../guest/config.ts";
import { ImagesConfig } from "../image/config.ts";
import { RelaySettings } from "../relay/config.ts";
import { SchedulerConfig, ShutdownConfig } from "../scheduler/config.ts";
import { HttpConfig } from "../server/config.ts";
import { HistoryConfig } from "../store/config.ts";
import { LogSettings } from "../telemetry/config.ts";
import { VmConfig } from "../vm/config.ts";

const poolName = z
  .string()
  .regex(
    /^[a-z0-9][a-z0-9-]{0,30}$/,
    "a pool's name has up to 31 of a-z, 0-9 and -, and starts with a letter or digit",
  );

/**
 * The whole configuration: nothing but the modules' slices, under the names operators write. In each slice `.meta()` says of a key
 * what it is (`description`), whether it may be shown (`secret`), in what unit people write it, and whether a reload takes it over
 * (`reload`: `live`, or `restart` when it waits for the next start). A key without `reload` has that of the section around it.
 */
export const Settings = z.strictObject({
  gitlab: GitLabConfig.meta({ description: "The GitLab whose jobs are run." }),
  proxy: ProxySettings.prefault({}).meta({
    description: "A company's HTTP proxy between this computer and others (docs/networks.md).",
  }),
  pools: z.record(poolName, Pool).default({}).meta({
    reload: "live",
    description: "The kinds of machine, by name, each with the GitLab runner whose jobs it serves.",
  }),
  webhook: WebhookConfig.optional().meta({
    description: "Jobs by tag: found by webhook and API, each in a machine of the size that its tag names.",
  }),
  http: HttpConfig.prefault({}).meta({ description: "The public server: webhooks and health." }),
  state: z
    .string()
    .refine((path) => path.startsWith("/"), "give an absolute path")
    .refine(
      (path) => path.length <= 70,
      "give a path of at most 70 characters, for the unix sockets below it",
    )
    .optional()
    .meta({
      reload: "restart",
      description:
        "Directory of the store, keys, sockets and machines. Default: /var/lib/firerunner for root, else $XDG_STATE_HOME/firerunner or ~/.local/state/firerunner.",
    }),
  claiming: ClaimingConfig.prefault({}).meta({ description: "How GitLab is asked for jobs." }),
  scheduler: SchedulerConfig.prefault({}).meta({
    description: "How patient FireRunner is with machines and jobs, and how much it does at one time.",
  }),
  shutdown: ShutdownConfig.prefault({}).meta({
    description: "What happens to running jobs when FireRunner is told to end.",
  }),
  guests: GuestsConfig.prefault({}).meta({ description: "What every machine is given." }),
  vm: VmConfig.prefault({}).meta({ description: "What this computer gives to machines." }),
  images: ImagesConfig.prefault({}).meta({ description: "What image build puts into images." }),
  relay: RelaySettings.prefault({}).meta({
    description: "What a guest may ask of the relay, and where machines on other hosts find it.",
  }),
  history: HistoryConfig.prefault({}).meta({ description: "What is remembered of jobs that have ended." }),
  log: LogSettings.prefault({}).meta({ description: "What is logged, and how." }),
});
export type Settings = z.infer<typeof Settings>;
