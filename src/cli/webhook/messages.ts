import type { WebhookStatus } from "../../views/webhook-api.ts";
import { ago } from "../messages.ts";

/** Where the public server listens, and under which address GitLab is told to reach it. */
export function describeListener(doors: readonly string[], url: string | null): string {
  const listens =
    doors.length === 0 ? "listens nowhere (http.listen is empty)" : `listens on ${doors.join(", ")}`;
  return url === null ? listens : `${listens}; GitLab calls ${url}`;
}

/** The hooks that GitLab has, and when one last told of something. */
export function describeHook({ hooks, lastDelivery }: WebhookStatus): string {
  const bad = hooks.filter(({ ok }) => !ok).length;
  const known =
    hooks.length === 0
      ? "none known"
      : bad === 0
        ? `${hooks.length} in order`
        : `${bad} of ${hooks.length} in trouble`;
  return `${known}, last delivery ${lastDelivery ? ago(lastDelivery.receivedAt) : "never"}`;
}

export function describeRunner({ runners, mostRunners }: WebhookStatus): string {
  const { creating, active, retiring } = runners;
  const moving = [
    ...(creating > 0 ? [`${creating} being made`] : []),
    ...(retiring > 0 ? [`${retiring} to be deleted`] : []),
  ];
  return [`${active} of at most ${mostRunners}`, ...moving].join(", ");
}

/** What is not as it should be with jobs by tag, one sentence each. Empty when all is well. */
export function hookProblems(status: WebhookStatus): string[] {
  const { hooks, problems, missedByHooks, projectProblems, token, doors } = status;
  return [
    ...(doors.length === 0 ? ["no webhook can arrive: name an address in http.listen"] : []),
    ...hooks.filter(({ ok }) => !ok).map(({ id, words }) => `hook ${id}: ${words}`),
    ...problems,
    ...(missedByHooks > 0 ? [missedWords(missedByHooks)] : []),
    ...(token?.problems ?? []).map((problem) => `API token: ${problem}`),
    ...projectProblems.map(({ project, problem }) => `project ${project}: ${problem}`),
  ];
}

function missedWords(times: number): string {
  const what = times === 1 ? "1 job was" : `${times} jobs were`;
  return `${what} found by looking, where a webhook should have told: “firerunner webhook install” repairs the hook`;
}
