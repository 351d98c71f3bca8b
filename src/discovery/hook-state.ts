import type { ApiHook } from "../gitlab/rest-api.ts";

/** How a hook is, in words, and whether that is well. */
export function hookState(hook: ApiHook, now: number): { readonly ok: boolean; readonly words: string } {
  const { alertStatus, disabledUntil } = hook;
  if (alertStatus === "disabled") {
    return trouble(
      "switched off by GitLab after many failed deliveries: send it a test (“firerunner webhook install”), which switches it on",
    );
  }
  if (alertStatus === "temporarily_disabled" || (disabledUntil ?? 0) > now) {
    const until = disabledUntil === undefined ? "" : ` until ${new Date(disabledUntil).toISOString()}`;
    return trouble(
      `switched off by GitLab${until} after failed deliveries; jobs are found by looking meanwhile`,
    );
  }
  if (!hook.jobEvents) {
    return trouble("does not send job events: “firerunner webhook install” repairs it");
  }
  return { ok: true, words: "works" };
}

function trouble(words: string): { readonly ok: boolean; readonly words: string } {
  return { ok: false, words };
}
