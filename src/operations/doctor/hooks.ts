import { formatDuration } from "../../base/units.ts";
import { describeScope } from "../../discovery/config.ts";
import { hookState, isSameUrl } from "../../discovery/hook-health.ts";
import type { ApiHook, Scope } from "../../gitlab/rest-api.ts";
import type { Finding } from "./check.ts";
import { mergeFindings } from "./findings.ts";

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
  return mergeFindings([...hooks.flatMap((hook) => judgeHook(hook, wanted)), ...judgeNumber(hooks)]);
}

function withoutUrl({ isOpen }: HookExpectations, byLooking: string): Finding {
  const hint =
    "Give webhook.url the address under which GitLab reaches the public server, then “firerunner webhook install”.";
  return isOpen
    ? { level: "warn", message: "webhook.url is missing, so it is not known which hook leads here", hint }
    : { level: "warn", message: `the public server is closed (http.listen is empty): ${byLooking}`, hint };
}

function judgeHook(hook: ApiHook, wanted: HookExpectations): Finding[] {
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

function judgeNumber(hooks: readonly ApiHook[]): Finding[] {
  if (hooks.length === 1) return [];
  return [
    {
      level: "warn",
      message: `${hooks.length} hooks lead here (${hooks.map(({ id }) => id).join(", ")}): every event comes ${hooks.length} times`,
      hint: "Delete all but one in GitLab.",
    },
  ];
}
