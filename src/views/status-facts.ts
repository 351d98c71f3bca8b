/** What is worked out of a status by all who show it: `status` and its `--check`, and `top`. Pure. */
import type { HostStatus, Status } from "./api.ts";
import type { WebhookStatus } from "./webhook-api.ts";

interface StatusCounts {
  readonly running: number;
  readonly starting: number;
  /** For a machine here, or in GitLab. */
  readonly waiting: number;
  readonly poolsReady: number;
}

export function countsOf({ pools, unfinished, webhook }: Status): StatusCounts {
  const inState = (wanted: string) => unfinished.filter(({ state }) => state === wanted).length;
  return {
    running: inState("running"),
    starting: inState("starting"),
    waiting: inState("claimed") + (webhook?.waiting.length ?? 0),
    poolsReady: pools.filter(({ ok }) => ok).length,
  };
}

/** Hosts that matter: of drivers that a pool uses, or with machines on them. */
export function hostsInUse({ hosts, pools }: Pick<Status, "hosts" | "pools">): HostStatus[] {
  return hosts.filter(
    ({ driver, taken }) => taken.machines > 0 || pools.some((pool) => pool.driver === driver),
  );
}

/** Hooks that are not as they should be, and what is in the way of jobs by tag as a whole; one sentence each. */
export function hookFaults({ hooks, problems }: Pick<WebhookStatus, "hooks" | "problems">): string[] {
  return [...hooks.filter(({ ok }) => !ok).map(({ id, words }) => `hook ${id}: ${words}`), ...problems];
}

/** What is wrong with the API token, and with reading single projects; one sentence each. */
export function accessFaults({
  token,
  projectProblems,
}: Pick<WebhookStatus, "token" | "projectProblems">): string[] {
  return [
    ...(token?.problems ?? []).map((problem) => `API token: ${problem}`),
    ...projectProblems.map(({ project, problem }) => `project ${project}: ${problem}`),
  ];
}
