/** What the views read of the running program, handed to them module by module. */
import { systemClock } from "../base/clock.ts";
import type { Config } from "../config/load.ts";
import { neededAbilities } from "../config/machine-kinds.ts";
import type { WarmImage } from "../containers/warm.ts";
import { namedScopeOf } from "../discovery/config.ts";
import { describeOutage } from "../gitlab/reach.ts";
import type { PublicServer } from "../server/public/public-server.ts";
import type { WebhookPorts } from "../server/routes/ports.ts";
import type { DaemonReads, TaggedReadiness } from "../views/ports.ts";
import { createTaggedJobViews } from "../views/tagged-jobs.ts";
import type { Components } from "./compose.ts";
import type { TaggedJobs } from "./tagged-jobs.ts";

export interface About {
  readonly version: string;
  /** Epoch ms. */
  readonly startedAt: number;
}

export function daemonReads(app: Components, config: () => Config, about: About): DaemonReads {
  const { scheduler, claimer, pools, reach, tokens, standIns, warm, tagged, traces } = app;
  return {
    ...{ scheduler, claimer, pools },
    facts() {
      const { file, state, gitlab } = config();
      const { url: gitlabUrl } = gitlab;
      const abilities = neededAbilities(config());
      return { ...about, configFile: file, stateDirectory: state, gitlabUrl, neededAbilities: abilities };
    },
    outage: () => describeOutage(reach.outage(), systemClock.now()),
    tokenProblem: tokens.problem,
    notices: () => [...standIns(), ...warm.status().flatMap(warmNotice), ...traces.notices()],
    tagged: tagged && taggedReadiness(tagged),
  };
}

function warmNotice({ name, digest, problem }: WarmImage): string[] {
  if (problem === undefined) return [];
  const what = digest === undefined ? "is not at hand" : "cannot be followed, and may be out of date";
  return [`the image ${name} (images.warm) ${what}: ${problem}`];
}

function taggedReadiness({ watcher, tokenCheck }: TaggedJobs): TaggedReadiness {
  return {
    canFind: () => watcher.status().canFind,
    problems: () => [...watcher.status().problems, ...(tokenCheck.status()?.problems ?? [])],
  };
}

/** `/v1/webhook` and what else people may ask of jobs by tag; undefined when none are served. */
export function webhookPorts(
  { claimer, tagged }: Pick<Components, "claimer" | "tagged">,
  config: () => Config,
  publicServer: PublicServer | undefined,
): WebhookPorts | undefined {
  const first = config().webhook;
  if (!first || !tagged) return undefined;
  const { receiver, watcher, provisioner, unservable, hookHealth, tokenCheck, rest } = tagged;
  const views = createTaggedJobViews({
    ...{ claimer, watcher, unservable, hookHealth },
    scope: namedScopeOf(first),
    webhook: () => config().webhook ?? first,
    receiver,
    runners: provisioner,
    token: () => tokenCheck.status(),
    budget: () => rest.budget,
    refused: () => publicServer?.counts().refused ?? {},
  });
  return { ...views, runners: provisioner };
}
