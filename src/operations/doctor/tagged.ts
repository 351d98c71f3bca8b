/** What jobs by tag need of GitLab: the API token, the scope and the role in it, room for runners, the hook. Only looks. */
import type { Clock } from "../../base/clock.ts";
import { formatDuration } from "../../base/units.ts";
import type { Config } from "../../config/load.ts";
import { describeScope, namedScopeOf } from "../../discovery/config.ts";
import { hookState, isSameUrl } from "../../discovery/hook-health.ts";
import { reviewHookScope, reviewRole, reviewToken } from "../../discovery/token-review.ts";
import { connectGitLab } from "../../gitlab/http.ts";
import { createGitLabRest } from "../../gitlab/rest.ts";
import type { ApiHook, ApiRunner, GitLabRest, Scope } from "../../gitlab/rest-api.ts";
import { installationMark, readMark } from "../../runners/runner-mark.ts";
import { answer, type DoctorCheck, type Finding, mergeFindings } from "./findings.ts";

interface TaggedCheckOptions {
  readonly config: Pick<Config, "gitlab" | "proxy" | "http" | "state">;
  readonly webhook: NonNullable<Config["webhook"]>;
  readonly clock: Clock;
}

type Ask = (rest: GitLabRest, signal: AbortSignal) => Promise<Finding>;

/** Every question is put to GitLab by itself, so that one without an answer hides no other. Nothing is changed there. */
export function taggedChecks(options: TaggedCheckOptions): DoctorCheck[] {
  const check = (name: string, worst: "warn" | "fail", ask: Ask): DoctorCheck => ({
    name,
    run: answer((signal) => withRest(options, (rest) => ask(rest, signal)), worst),
  });
  return [
    check("API token", "fail", (rest, signal) => checkToken(options, rest, signal)),
    check("scope", "fail", (rest, signal) => checkScope(options, rest, signal)),
    check("runners", "warn", (rest, signal) => checkRunners(options, rest, signal)),
    // Without any hook jobs are found by looking: nothing about it keeps jobs from running.
    check("webhook", "warn", (rest, signal) => checkHook(options, rest, signal)),
  ];
}

async function withRest<T>(
  { config, webhook, clock }: TaggedCheckOptions,
  ask: (rest: GitLabRest) => Promise<T>,
): Promise<T> {
  const http = await connectGitLab(config);
  try {
    const token = () => webhook.secrets.apiToken;
    return await ask(createGitLabRest({ http, clock, version: "doctor", token }));
  } finally {
    await http.close();
  }
}

async function checkToken({ clock }: TaggedCheckOptions, rest: GitLabRest, signal: AbortSignal) {
  const facts = await rest.tokenFacts(signal);
  return mergeFindings([...reviewToken(facts, clock.now()), ...reviewHookScope(facts)]);
}

async function checkScope({ webhook }: TaggedCheckOptions, rest: GitLabRest, signal: AbortSignal) {
  const scope = await rest.findScope(namedScopeOf(webhook), signal);
  const facts = await rest.tokenFacts(signal);
  const role = reviewRole(scope, facts, await rest.accessLevel(scope, facts.userId, signal));
  return mergeFindings([{ level: "ok", message: `${describeScope(scope)} is there` }, role]);
}

async function checkRunners(
  { config, webhook }: TaggedCheckOptions,
  rest: GitLabRest,
  signal: AbortSignal,
): Promise<Finding> {
  const scope = await rest.findScope(namedScopeOf(webhook), signal);
  const runners = await rest.runnersOf(scope, signal);
  // Where the computer has no id, the mark is in the store, which belongs to the FireRunner that runs.
  const mark = await installationMark({
    configured: webhook.installation,
    state: config.state,
    installationId: "",
  });
  const { hostname } = new URL(config.gitlab.url);
  return evaluateRunners({ scope, runners, mark, most: webhook.runners.most, hostname });
}

async function checkHook(
  { config, webhook, clock }: TaggedCheckOptions,
  rest: GitLabRest,
  signal: AbortSignal,
): Promise<Finding> {
  const scope = await rest.findScope(namedScopeOf(webhook), signal);
  const { url, secrets, poll } = webhook;
  const about = {
    ...{ scope, url, pollMs: poll.interval, now: clock.now() },
    isOpen: config.http.listen.length > 0,
    keys: secrets.signingKeys.length,
    tokens: secrets.tokens.length,
  };
  const hooks = scope.kind === "instance" || url === undefined ? [] : await rest.hooksOf(scope, signal);
  return evaluateHooks(hooks, about);
}

/** Runners of one group or project that GitLab allows (docs/gitlab.md): by default, and on GitLab.com's free plan. */
const MOST_RUNNERS = 1_000;
const MOST_RUNNERS_FREE = 50;
/** From this share of a limit on it is worth a word. */
const NEARLY_ALL = 0.9;

export interface RunnersSeen {
  readonly scope: Scope;
  readonly runners: readonly ApiRunner[];
  /** This installation's mark; "" when only its store knows it. */
  readonly mark: string;
  /** `webhook.runners.most`. */
  readonly most: number;
  /** Of GitLab. */
  readonly hostname: string;
}

/** Whether there is room for more runners. Without it only jobs whose tags have a runner already are served. */
export function evaluateRunners(seen: RunnersSeen): Finding {
  const { scope, runners, mark, most } = seen;
  const ours = runners.filter(({ description }) => isOurs(description, mark)).length;
  const findings: Finding[] = [
    {
      level: "ok",
      message: `GitLab lists ${runners.length} for ${describeScope(scope)}, ${ours} of them FireRunner's; webhook.runners.most is ${most}`,
    },
  ];
  if (ours >= most * NEARLY_ALL) {
    findings.push({
      level: "warn",
      message: `${ours} of the ${most} runners that webhook.runners.most allows are there`,
      hint: "“firerunner runner prune” deletes those that no job asks for; or raise webhook.runners.most, or lower webhook.runners.keepUnused.",
    });
  }
  const limit = scope.kind === "instance" ? Number.POSITIVE_INFINITY : gitLabLimit(seen);
  if (runners.length >= limit * NEARLY_ALL) {
    findings.push({
      level: "warn",
      message: `GitLab lists ${runners.length} runners for ${describeScope(scope)}, and may allow ${limit}`,
      hint: `Delete those that nobody uses (“firerunner runner prune”, and by hand in GitLab); ${whoMayRaise(seen)}.`,
    });
  }
  return mergeFindings(findings);
}

function isOurs(description: string, mark: string): boolean {
  const found = readMark(description);
  return found !== undefined && (mark === "" || found.installation === mark);
}

/** Where there are more than the free plan allows, the plan is another. */
function gitLabLimit({ hostname, runners }: RunnersSeen): number {
  return hostname === "gitlab.com" && runners.length <= MOST_RUNNERS_FREE ? MOST_RUNNERS_FREE : MOST_RUNNERS;
}

function whoMayRaise({ hostname }: RunnersSeen): string {
  return hostname === "gitlab.com"
    ? "the free plan allows 50, paid plans 1000"
    : "GitLab's administrator can raise the limit (ci_registered_group_runners, ci_registered_project_runners)";
}

const REPAIR = "“firerunner webhook install” repairs it, and shows that a test event arrives.";

export interface HookExpectations {
  readonly scope: Scope;
  /** `webhook.url`. */
  readonly url: string | undefined;
  /** Whether `http.listen` names an address. */
  readonly isOpen: boolean;
  /** How many signing keys and plain tokens are accepted. */
  readonly keys: number;
  readonly tokens: number;
  readonly pollMs: number;
  readonly now: number;
}

/** Whether GitLab tells of jobs: of the hooks that lead here, what each should be and is not. Never worse than `warn`. */
export function evaluateHooks(all: readonly ApiHook[], wanted: HookExpectations): Finding {
  const { scope, url, pollMs } = wanted;
  const byLooking = `jobs are found by looking, every ${formatDuration(pollMs)}`;
  if (url === undefined) return withoutUrl(wanted, byLooking);
  if (scope.kind === "instance") {
    return {
      level: "warn",
      message: `GitLab has no webhook for the jobs of all its projects, and those of groups and projects are not looked at from here; without one ${byLooking}`,
      hint: "Install one where many jobs run: firerunner webhook install --group PATH, or --project PATH.",
    };
  }
  const hooks = all.filter((hook) => isSameUrl(hook.url, url));
  if (hooks.length === 0) {
    return {
      level: "warn",
      message: `${describeScope(scope)} has none that leads to ${url}: ${byLooking}`,
      hint: "“firerunner webhook install” makes it. (Webhooks of single projects in a group are not looked at.)",
    };
  }
  return mergeFindings([...hooks.flatMap((hook) => hookFindings(hook, wanted)), ...numberFindings(hooks)]);
}

function withoutUrl({ isOpen }: HookExpectations, byLooking: string): Finding {
  const hint =
    "Give webhook.url the address under which GitLab reaches the public server, then “firerunner webhook install”.";
  return isOpen
    ? { level: "warn", message: "webhook.url is missing, so it is not known which hook leads here", hint }
    : { level: "warn", message: `the public server is closed (http.listen is empty): ${byLooking}`, hint };
}

function hookFindings(hook: ApiHook, wanted: HookExpectations): Finding[] {
  const { ok, words } = hookState(hook, wanted.now);
  const problems = [
    ok ? undefined : words,
    hook.pipelineEvents ? undefined : "does not send pipeline events",
    hook.sslVerification ? undefined : "does not verify the public server's certificate",
    proofProblem(hook, wanted),
  ].filter((each) => each !== undefined);
  if (problems.length === 0) return [{ level: "ok", message: `hook ${hook.id} leads here and works` }];
  return problems.map((problem) => ({ level: "warn", message: `hook ${hook.id} ${problem}`, hint: REPAIR }));
}

/** GitLab does not say whether a hook has a secret token. */
function proofProblem(
  { signingTokenPresent }: ApiHook,
  { keys, tokens }: HookExpectations,
): string | undefined {
  if (tokens > 0 || (signingTokenPresent === true && keys > 0)) return undefined;
  if (keys === 0) return "cannot prove what it sends: neither a signing key nor a secret token is configured";
  return signingTokenPresent === false
    ? "does not sign what it sends, and only signatures are accepted: all of it is refused"
    : "cannot sign what it sends (GitLab is older than 19.0), and only signatures are accepted: give webhook.tokenFile";
}

function numberFindings(hooks: readonly ApiHook[]): Finding[] {
  if (hooks.length === 1) return [];
  return [
    {
      level: "warn",
      message: `${hooks.length} hooks lead here (${hooks.map(({ id }) => id).join(", ")}): every event comes ${hooks.length} times`,
      hint: "Delete all but one in GitLab.",
    },
  ];
}
