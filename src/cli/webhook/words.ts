import type { WebhookStatus } from "../../http/webhook-api.ts";

/** Where the door listens, and under which address GitLab is told to reach it. */
export function doorWords(doors: readonly string[], url: string | null): string {
  const listens =
    doors.length === 0 ? "listens nowhere (http.listen is empty)" : `listens on ${doors.join(", ")}`;
  return url === null ? listens : `${listens}; GitLab calls ${url}`;
}

/** What is not as it should be with jobs by tag, one sentence each. Empty when all is well. */
export function hookTroubles(status: WebhookStatus): string[] {
  const { hooks, hooksProblem, missedByHooks, projectProblems, token, doors } = status;
  return [
    ...(doors.length === 0 ? ["no webhook can arrive: name an address in http.listen"] : []),
    ...hooks.filter(({ ok }) => !ok).map(({ id, words }) => `hook ${id}: ${words}`),
    ...(hooksProblem === null ? [] : [hooksProblem]),
    ...(missedByHooks > 0 ? [missedWords(missedByHooks)] : []),
    ...(token?.problems ?? []).map((problem) => `API token: ${problem}`),
    ...projectProblems.map(({ project, problem }) => `project ${project}: ${problem}`),
  ];
}

function missedWords(times: number): string {
  const what = times === 1 ? "1 job was" : `${times} jobs were`;
  return `${what} found by looking, where a webhook should have told: “firerunner webhook install” repairs the hook`;
}
