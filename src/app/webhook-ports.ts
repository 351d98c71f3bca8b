import { describeError } from "../base/errors.ts";
import type { Config } from "../config/load.ts";
import type { HookHealth } from "../discovery/hook-health.ts";
import type { PendingJob } from "../discovery/pending-job.ts";
import type { LeftAlone } from "../discovery/pending-job-index.ts";
import type { Watcher } from "../discovery/watcher.ts";
import type { WebhookReceiverStatus } from "../discovery/webhook-receiver.ts";
import { tagPoolName } from "../domain/routing.ts";
import type { NamedScope, RateBudget } from "../gitlab/rest-api.ts";
import type { RunnerProvisioner } from "../runners/provisioner.ts";
import type { Unservable } from "../runners/unservable.ts";
import type { WebhookPorts } from "../server/control/ports.ts";
import type { WaitingView, WebhookStatusView } from "../views/webhook-api.ts";

/** More than people read; GitLab's own pages have them all. */
const MOST_WAITING = 200;

export interface WebhookPortsOptions {
  readonly scope: NamedScope;
  /** The configuration in force. */
  readonly webhook: () => NonNullable<Config["webhook"]>;
  readonly desk: { status(): WebhookReceiverStatus };
  readonly watcher: Pick<Watcher, "status" | "explain" | "demand">;
  readonly keeper: Pick<RunnerProvisioner, "create" | "retire" | "prune" | "problem" | "pools">;
  readonly unservable: Pick<Unservable, "blocker">;
  readonly hookHealth: Pick<HookHealth, "status">;
  /** What was found out about the API token; null while nothing was. */
  readonly token: () => WebhookStatusView["token"];
  readonly budget: () => RateBudget | undefined;
  /** Requests that the door has turned away, by reason. */
  readonly refused: () => Readonly<Record<string, number>>;
  /** Why a pool's jobs are not asked for just now, in words; undefined when they are. */
  readonly claiming: (pool: string) => string | undefined;
}

/** What people may ask of jobs by tag, put together from the rooms that know it. */
export function createWebhookPorts(options: WebhookPortsOptions): WebhookPorts {
  const { watcher, keeper } = options;
  const view = (job: PendingJob) => viewOf(job, options);
  return {
    status: () => standingOf(options),
    waiting: () => watcher.demand.pending().slice(0, MOST_WAITING).map(view),
    async explainPending(jobId) {
      const words = await watcher
        .explain(jobId)
        .catch((error: unknown) => [`what GitLab says of it cannot be read: ${describeError(error)}`]);
      const job = watcher.demand.find(jobId);
      if (job) return [...words, ...hindrances(job, options)];
      const alone = watcher.status().leftAlone.find((each) => each.job.id === jobId);
      return [...words, alone && options.unservable.blocker(alone)].filter((each) => each !== undefined);
    },
    runners: keeper,
  };
}

const onlyProtected = "only jobs of protected branches and tags are given to it (webhook.runners.protected)";

/** What a job that waits in GitLab waits for, in words: for `why` and for the lists alike. */
function hindrances(job: PendingJob, { keeper, claiming, webhook }: WebhookPortsOptions): string[] {
  const problem = keeper.problem(job.route.tags);
  if (problem !== undefined) return [problem];
  const pool = poolOf(job, webhook().runners.perJob);
  if (!keeper.pools().has(pool)) return ["its runner is being made"];
  const reason = claiming(pool);
  if (reason !== undefined) return [reason];
  return ["GitLab is being asked for it", ...(webhook().runners.protected ? [onlyProtected] : [])];
}

function poolOf({ id, route }: PendingJob, perJob: boolean): string {
  return perJob ? `job:${id}` : tagPoolName(route.tags);
}

function viewOf(job: PendingJob, options: WebhookPortsOptions): WaitingView {
  const { id, projectId, project, name, createdAt, webUrl } = job;
  const { tags } = job.route;
  const pool = poolOf(job, options.webhook().runners.perJob);
  const problem = hindrances(job, options).join("; ");
  return { id, projectId, project, name, pool, tags: [...tags], createdAt, webUrl, problem };
}

function unservableView(alone: LeftAlone, { unservable }: WebhookPortsOptions) {
  const { id, name, tags, createdAt, webUrl } = alone.job;
  const { projectId, project } = alone;
  const reason = [alone.reason, unservable.blocker(alone)].filter((each) => each !== undefined).join("; ");
  return { id, projectId, project, name, tags: [...tags], createdAt, webUrl, reason };
}

function standingOf(options: WebhookPortsOptions): WebhookStatusView {
  const { scope, webhook, desk, watcher, hookHealth, token, budget } = options;
  const { url, secrets, runners } = webhook();
  const { since, taken, duplicates, unreadable } = desk.status();
  const { missedByHooks, leftAlone, problems, projectProblems } = watcher.status();
  const health = hookHealth.status();
  return {
    scope: scope.kind === "instance" ? "the whole GitLab" : `${scope.kind} ${scope.name}`,
    url: url ?? null,
    accepts: { signingKeys: secrets.signingKeys.length, tokens: secrets.tokens.length },
    requests: { since, taken: { ...taken }, duplicates, unreadable, refused: { ...options.refused() } },
    hooks: [...health.hooks],
    problems: [...problems, ...(health.problem === null ? [] : [health.problem])],
    missedByHooks,
    leftAlone: leftAlone.length,
    unservable: leftAlone.slice(0, MOST_WAITING).map((each) => unservableView(each, options)),
    projectProblems: projectProblems.map(({ project, problem }) => ({ project, problem })),
    budget: budget() ?? null,
    token: token(),
    mostRunners: runners.most,
  };
}
