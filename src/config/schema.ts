import { z } from "zod";
import { GitLabConfig } from "../gitlab/config.ts";
import { Pool } from "../lifecycle/config.ts";
import { RelaySettings } from "../relay/config.ts";
import { LogSettings } from "../telemetry/config.ts";

const poolName = z
  .string()
  .regex(
    /^[a-z0-9][a-z0-9-]{0,30}$/,
    "a pool's name has up to 31 of a-z, 0-9 and -, and starts with a letter or digit",
  );

/** The whole configuration: nothing but the rooms' slices, under the names operators write. */
export const Settings = z.strictObject({
  gitlab: GitLabConfig.meta({ description: "The GitLab whose jobs are run." }),
  pools: z
    .record(poolName, Pool)
    .refine((pools) => Object.keys(pools).length > 0, "name at least one pool")
    .meta({
      description: "The kinds of machine, by name, each with the GitLab runner whose jobs it serves.",
    }),
  state: z
    .string()
    .refine((path) => path.startsWith("/"), "give an absolute path")
    .refine(
      (path) => path.length <= 70,
      "give a path of at most 70 characters, for the unix sockets below it",
    )
    .optional()
    .meta({
      description:
        "Directory of the store, keys, sockets and machines. Default: /var/lib/firerunner for root, else $XDG_STATE_HOME/firerunner or ~/.local/state/firerunner.",
    }),
  relay: RelaySettings.prefault({}).meta({ description: "What a guest may ask of the relay." }),
  log: LogSettings.prefault({}).meta({ description: "What is logged, and how." }),
});
export type Settings = z.infer<typeof Settings>;
