/** Jobs by tag: the parts that are built only where the configuration has `webhook`, and how they are joined. */
import { hostname } from "node:os";
import { systemClock } from "../base/clock.ts";
import { newRunnerKey } from "../base/ids.ts";
import type { Log } from "../base/log.ts";
import type { Slots } from "../claiming/slots.ts";
import type { Config } from "../config/load.ts";
import { tagRulesOf } from "../config/machine-kinds.ts";
import { createScopeSource, namedScopeOf } from "../discovery/config.ts";
import { createHookHealth, type HookHealth } from "../discovery/hook-health.ts";
import { createTokenCheck, type TokenCheck } from "../discovery/token-review.ts";
import { createWatcher, type Watcher } from "../discovery/watcher.ts";
import { createWebhookReceiver, type WebhookReceiver } from "../discovery/webhook-receiver.ts";
import type { Labels } from "../domain/placement.ts";
import type { MachineKind, Pool } from "../domain/pool.ts";
import type { TagRules } from "../domain/routing.ts";
import type { Size } from "../domain/size.ts";
import type { GitLabHttp } from "../gitlab/http.ts";
import { createGitLabRest } from "../gitlab/rest.ts";
import type { GitLabRest } from "../gitlab/rest-api.ts";
import type { JobPayload, RunnerApi, RunnerInfo } from "../gitlab/runner-api.ts";
import { createHookVerifier } from "../gitlab/webhook-signature.ts";
import type { RunnerProvisioner } from "../runners/provisioner.ts";
import { createRunnerProvisioner } from "../runners/provisioner.ts";
import { installationMark } from "../runners/runner-mark.ts";
import { createUnservable, type Unservable } from "../runners/unservable.ts";
import type { MachineBase } from "../scheduler/host-probes.ts";
import type { Screening } from "../server/public/webhook-route.ts";
import type { Claim, Store } from "../store/store.ts";
import type { Fleet } from "../vm/driver.ts";
import type { PoolSource } from "./pool-sources.ts";

type Webhook = NonNullable<Config["webhook"]>;

export interface TaggedJobs {
  readonly rest: GitLabRest;
  readonly receiver: WebhookReceiver<Screening>;
  readonly watcher: Watcher;
  readonly provisioner: RunnerProvisioner;
  readonly unservable: Unservable;
  readonly hookHealth: HookHealth;
  readonly tokenCheck: TokenCheck;
  /** Their pools. */
  readonly source: PoolSource;
  start(): void;
  stop(): Promise<void>;
  /** The configuration was read again: whatever was wrong may have been put right. */
  reload(): void;
}

export interface TaggedJobsOptions {
  /** The configuration in force. What it serves is decided at start, what tags mean may change. */
  readonly config: () => Config;
  readonly webhook: Webhook;
  readonly http: GitLabHttp;
  readonly api: RunnerApi;
  readonly store: Store;
  readonly fleet: Fleet;
  readonly version: string;
  readonly runnerInfo: (pool: Pool) => RunnerInfo | undefined;
  /** A request is open that may bring a job of this pool. */
  readonly isPolled: (pool: string) => boolean;
  /** GitLab says that a job of ours has ended. */
  readonly onJobEnded: (jobId: number) => void;
  /** Why no host could ever hold a machine, in words. */
  readonly neverHeld: Slots["neverHeld"];
  /** The trace that a claimed job belongs to. */
  readonly trace: (payload: JobPayload) => Claim["trace"];
  readonly log: Log;
}

export async function buildTaggedJobs(options: TaggedJobsOptions): Promise<TaggedJobs> {
  const { store, http, api, version, fleet } = options;
  const log = options.log.child({ component: "discovery" });
  const clock = systemClock;
  const random = Math.random;
  /** The configuration as it is now; the one at start if a reload has taken the section away. */
  const webhook = () => options.config().webhook ?? options.webhook;
  const rules = (): TagRules => ({
    ...rulesOf(webhook(), options.config().kinds, fleet),
    hostProblem: (size, kind) => options.neverHeld({ ...kind, size }),
  });
  const rest = createGitLabRest({ http, clock, version, token: () => webhook().secrets.apiToken });
  const scope = createScopeSource(() => rest.findScope(namedScopeOf(options.webhook)));
  const expectsHooks = options.config().http.listen.length > 0;

  const watcher = createWatcher({
    ...{ store, rest, rules, scope, clock, random, log, expectsHooks },
    config: options.webhook,
  });
  const installation = await installationMark({
    configured: options.webhook.installation,
    state: options.config().state,
    installationId: store.installationId,
  });
  const provisioner = createRunnerProvisioner({
    ...{ demand: watcher.demand, store, rest, api, scope, rules, clock, random, installation, log },
    config: () => webhook().runners,
    hostname: hostname(),
    newKey: newRunnerKey,
    runnerInfo: options.runnerInfo,
    isPolled: ({ pool, jobId }) => options.isPolled(pool) || (jobId !== null && unservable.isFailing(jobId)),
  });
  const unservable: Unservable = createUnservable({
    provisioner,
    ...{ store, api, rules, clock, random, log, trace: options.trace },
    leftAlone: () => watcher.status().leftAlone,
    config: () => webhook().unservable,
    runnerInfo: options.runnerInfo,
  });
  await provisioner.load();
  const verifier = createHookVerifier({
    signingKeys: () => webhook().secrets.signingKeys,
    tokens: () => webhook().secrets.tokens,
    now: clock.now,
  });
  const receiver = createWebhookReceiver({
    ...{ verifier, store, clock, log },
    onHook: watcher.noteHook,
    onJobEnded: options.onJobEnded,
  });
  const hookHealth = createHookHealth({
    ...{ rest, scope, clock, random, log, hookedProjects: watcher.hookedProjects },
    url: options.webhook.url,
  });
  const tokenCheck = createTokenCheck({ rest, scope, clock, log });
  const loops = [watcher, provisioner, unservable, hookHealth, tokenCheck];
  return {
    ...{ rest, receiver, watcher, provisioner, unservable, hookHealth, tokenCheck },
    source: sourceOf(provisioner, rules),
    start() {
      for (const loop of loops) loop.start();
    },
    async stop() {
      await Promise.all(loops.map((loop) => loop.stop()));
    },
    reload() {
      watcher.wake();
      provisioner.wake();
      unservable.wake();
      hookHealth.wake();
      tokenCheck.wake();
    },
  };
}

function sourceOf(provisioner: RunnerProvisioner, rules: () => TagRules): PoolSource {
  return {
    pools: provisioner.pools,
    bases: () => basesOf(rules()),
    wanted: provisioner.wanted,
    assign: (jobId, pool) => provisioner.assign(jobId, pool) ?? pool,
    requestRecheck: provisioner.requestRecheck,
  };
}

function rulesOf(webhook: Webhook, kinds: Config["kinds"], fleet: Fleet): TagRules {
  return tagRulesOf(webhook, kinds, (driver, size) => sizeProblem(fleet.hosts(), driver, size));
}

/** All hosts of a driver can make the same sizes: what is too large for some of them is a matter of placement. */
function sizeProblem(hosts: ReturnType<Fleet["hosts"]>, driver: string, size: Size): string | undefined {
  const one = [...hosts.values()].find(({ name }) => name === driver);
  return one ? one.sizeProblem(size) : `the ${driver} driver has no host`;
}

function basesOf({ kind, rules }: TagRules): ReadonlyMap<string, MachineBase> {
  const ofRules = rules.map(
    (rule) => [`webhook, tag ${rule.tag}`, baseOf(rule.kind ?? kind, rule.hostLabels)] as const,
  );
  return new Map([["webhook", baseOf(kind)], ...ofRules]);
}

function baseOf({ driver, image, containers, hostLabels }: MachineKind, more: Labels = {}): MachineBase {
  return { driver, image, containers, hostLabels: { ...hostLabels, ...more } };
}
