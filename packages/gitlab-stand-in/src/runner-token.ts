import type { Core } from "./core.ts";
import { type Reply, refuse } from "./exchange.ts";
import { isProcessing, type Runner } from "./model.ts";

// A client hears of a token that was taken away by being refused, but need not hear it often.
const REFUSALS_PER_MINUTE = 10;

/** 403 for a token that no runner has. */
export function refuseRunnerToken(core: Core, token: string, what: string): Reply {
  const isInnocent =
    core.runners.isTakenAway(token) && core.limiter.allow(`refused ${token}`, REFUSALS_PER_MINUTE);
  if (!isInnocent) core.report("wrong-token", `${what} with a token that no runner has`);
  return refuse(403, "403 Forbidden");
}

export function tokenExpiry({ tokenExpiresAt }: Runner): string | null {
  return tokenExpiresAt === undefined ? null : new Date(tokenExpiresAt).toISOString();
}

/** GitLab does not mind a job that runs; but whoever deletes its runner leaves it with nobody who watches it. */
export function deleteForClient(core: Core, runner: Runner): void {
  const unfinished = core.jobs.all().find((job) => job.runner === runner && isProcessing(job));
  if (unfinished)
    core.report("runner-deleted-early", `runner ${runner.id} deleted while its job ran`, unfinished.id);
  core.runners.remove(runner.id, "client");
}
