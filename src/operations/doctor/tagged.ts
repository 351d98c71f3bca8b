/** What jobs by tag need of GitLab: the API token, the scope and the role in it, room for runners, the hook. Only looks. */
import type { Clock } from "../../base/clock.ts";
import type { Config } from "../../config/load.ts";
import { describeScope, namedScopeOf } from "../../discovery/config.ts";
import { reviewHookScope, reviewRole, reviewToken } from "../../discovery/token-review.ts";
import { connectGitLab } from "../../gitlab/http.ts";
import { createGitLabRest } from "../../gitlab/rest.ts";
import type { GitLabRest } from "../../gitlab/rest-api.ts";
import { installationMark } from "../../runners/runner-mark.ts";
import type { DoctorCheck, Finding } from "./check.ts";
import { answer, mergeFindings } from "./findings.ts";
import { evaluateHooks } from "./hooks.ts";
import { evaluateRunners } from "./runners.ts";

export interface TaggedCheckOptions {
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
