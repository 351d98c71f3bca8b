/** What people may ask of jobs by tag: how the webhook works, which jobs wait in GitLab, and why. */
import { describeError } from "../base/errors.ts";
import { pendingPoolName } from "../domain/routing.ts";
import type { ClaimingReads, PendingJobState, UnservableState, WatcherReads, WebhookFacts } from "./ports.ts";
import type { WaitingView, WebhookStatusView } from "./webhook-api.ts";

/** More than people read; GitLab's own pages have them all. */
const MOST_WAITING = 200;

export interface TaggedJobViews {
  status(): WebhookStatusView | Promise<WebhookStatusView>;
  /** Jobs that wait in GitLab for a machine of ours, oldest first. */
  waiting(): readonly WaitingView[];
  /** Why a job that waits in GitLab has not been claimed, in words; empty when nothing is known of it. */
  explainPending(jobId: number): Promise<readonly string[]>;
}

export interface TaggedJobReads {
  readonly scope:
    | { readonly kind: "instance" }
    | { readonly kind: "group" | "project"; readonly name: string };
  /** The configuration in force. */
  readonly webhook: () => WebhookFacts;
  readonly receiver: {
    status(): {
      readonly since: number;
      readonly taken: Readonly<Record<string, number>>;
      readonly duplicates: number;
      readonly unreadable: number;
    };
  };
  readonly watcher: WatcherReads;
  readonly runners: {
    /** Why there is no runner for these tags, in words. */
    problem(tags: readonly string[]): string | undefined;
    /** By name, the pools whose runner there is. */
    pools(): { has(pool: string): boolean };
  };
  readonly unservable: {
    /** Why one that the watcher tells of is not failed although it should be. */
    blocker(job: UnservableState): string | undefined;
  };
  readonly hookHealth: {
    status(): {
      readonly hooks: readonly WebhookStatusView["hooks"][number][];
      readonly problem: string | null;
    };
  };
  /** What was found out about the API token; null while nothing was. */
  readonly token: () => WebhookStatusView["token"];
  readonly budget: () => NonNullable<WebhookStatusView["budget"]> | undefined;
  /** Requests that the public server has turned away, by reason. */
  readonly refused: () => Readonly<Record<string, number>>;
  readonly claimer: ClaimingReads;
}

export function createTaggedJobViews(reads: TaggedJobReads): TaggedJobViews {
  const { watcher, unservable } = reads;
  return {
    status: () => webhookStatus(reads),
    waiting() {
      const blockersOf = blockersIn(reads);
      const pending = watcher.demand.pending().slice(0, MOST_WAITING);
      return pending.map((job) => toWaitingView(job, poolOf(job, reads.webhook()), blockersOf(job)));
    },
    async explainPending(jobId) {
      const told = await watcher
        .explain(jobId)
        .catch((error: unknown) => [`what GitLab says of it cannot be read: ${describeError(error)}`]);
      const job = watcher.demand.find(jobId);
      if (job) return [...told, ...blockersIn(reads)(job)];
      const alone = watcher.status().leftAlone.find((each) => each.job.id === jobId);
      return [...told, alone && unservable.blocker(alone)].filter((each) => each !== undefined);
    },
  };
}

const onlyProtected = "only jobs of protected branches and tags are given to it (webhook.runners.protected)";

/** What a job that waits in GitLab waits for, in words: for `why` and for the lists alike. What holds for all of them is read once. */
function blockersIn({ runners, claimer, webhook }: TaggedJobReads): (job: PendingJobState) => string[] {
  const facts = webhook();
  const pools = runners.pools();
  const claiming = new Map(claimer.status().map(({ pool, reason }) => [pool, reason]));
  return (job) => {
    const problem = runners.problem(job.route.tags);
    if (problem !== undefined) return [problem];
    const pool = poolOf(job, facts);
    if (!pools.has(pool)) return ["its runner is being made"];
    const reason = claiming.get(pool);
    if (reason !== undefined) return [reason];
    return ["GitLab is being asked for it", ...(facts.runners.protected ? [onlyProtected] : [])];
  };
}

function poolOf(job: PendingJobState, { runners }: WebhookFacts): string {
  return pendingPoolName(job, runners.perJob);
}

function toWaitingView(job: PendingJobState, pool: string, blockers: readonly string[]): WaitingView {
  const { id, projectId, project, name, createdAt, webUrl, route } = job;
  const tags = [...route.tags];
  return { id, projectId, project, name, pool, tags, createdAt, webUrl, problem: blockers.join("; ") };
}

function toUnservableView(
  alone: UnservableState,
  { unservable }: TaggedJobReads,
): WebhookStatusView["unservable"][number] {
  const { id, name, tags, createdAt, webUrl } = alone.job;
  const { projectId, project } = alone;
  const reason = [alone.reason, unservable.blocker(alone)].filter((each) => each !== undefined).join("; ");
  return { id, projectId, project, name, tags: [...tags], createdAt, webUrl, reason };
}

function webhookStatus(reads: TaggedJobReads): WebhookStatusView {
  const { scope, webhook, receiver, watcher, hookHealth, token, budget } = reads;
  const { url, secrets, runners } = webhook();
  const { since, taken, duplicates, unreadable } = receiver.status();
  const { missedByHooks, leftAlone, problems, projectProblems } = watcher.status();
  const health = hookHealth.status();
  return {
    scope: scope.kind === "instance" ? "the whole GitLab" : `${scope.kind} ${scope.name}`,
    url: url ?? null,
    accepts: { signingKeys: secrets.signingKeys.length, tokens: secrets.tokens.length },
    requests: { since, taken: { ...taken }, duplicates, unreadable, refused: { ...reads.refused() } },
    hooks: [...health.hooks],
    problems: [...problems, ...(health.problem === null ? [] : [health.problem])],
    missedByHooks,
    leftAlone: leftAlone.length,
    unservable: leftAlone.slice(0, MOST_WAITING).map((each) => toUnservableView(each, reads)),
    projectProblems: projectProblems.map(({ project, problem }) => ({ project, problem })),
    budget: budget() ?? null,
    token: token(),
    mostRunners: runners.most,
  };
}
