import { z } from "zod";
import type { Secret } from "../../base/secret.ts";
import { listeningPrivately, privateServerKeys } from "../network/config.ts";

const section = z.strictObject({
  ...privateServerKeys("/metrics is"),
  tokenFile: z.string().optional().meta({
    description:
      "A file with a token that clients must send (Authorization: Bearer …): `credentials_file` of Prometheus.",
    reload: "live",
  }),
  compatibility: z.enum(["gitlab-runner"]).optional().meta({
    description: "Give the series of GitLab's own runner besides, for dashboards that were made for them.",
  }),
});

/** `metrics`: what Prometheus asks. Nothing listens unless `listen` names an address. */
export const MetricsConfig = listeningPrivately(section, "metrics", "metrics are").meta({
  reload: "restart",
});
export type MetricsConfig = z.infer<typeof MetricsConfig>;

/** With what its token file holds. */
export interface MetricsSettings extends MetricsConfig {
  readonly token: Secret | undefined;
}
