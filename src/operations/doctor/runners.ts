import { describeScope } from "../../discovery/config.ts";
import type { ApiRunner, Scope } from "../../gitlab/rest-api.ts";
import { readMark } from "../../runners/runner-mark.ts";
import type { Finding } from "./check.ts";
import { mergeFindings } from "./findings.ts";

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
