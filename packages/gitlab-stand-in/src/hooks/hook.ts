import type { Group, Project } from "../model.ts";
import { isWithin } from "../projects.ts";

const MINUTE_MS = 60_000;
const DAY_MS = 24 * 60 * MINUTE_MS;
/** From the next failure on, a hook is off for a while. */
const TOLERATED_FAILURES = 3;
/** From the next failure on, it is off until a test succeeds. */
const LAST_FAILURES = 39;

export type HookEvent = "Job Hook" | "Pipeline Hook" | "Push Hook";

export interface Hook {
  readonly id: number;
  /** A group's hook hears of everything below the group. */
  readonly home: { readonly project: Project } | { readonly group: Group };
  readonly createdAt: number;
  url: string;
  name: string | undefined;
  description: string | undefined;
  /** Sent as it is, in `X-Gitlab-Token`. */
  token: string | undefined;
  /** The 32 bytes of `whsec_…`. */
  signingKey: Buffer | undefined;
  jobEvents: boolean;
  pipelineEvents: boolean;
  pushEvents: boolean;
  sslVerification: boolean;
  /** In a row. */
  failures: number;
  /** Epoch ms. */
  disabledUntil: number | undefined;
}

export function hears(hook: Hook, project: Project, event: HookEvent): boolean {
  const isBelow =
    "project" in hook.home ? hook.home.project === project : isWithin(project.path, hook.home.group.path);
  return isBelow && wants(hook, event);
}

function wants(hook: Hook, event: HookEvent): boolean {
  if (event === "Job Hook") return hook.jobEvents;
  return event === "Pipeline Hook" ? hook.pipelineEvents : hook.pushEvents;
}

export type AlertStatus = "executable" | "temporarily_disabled" | "disabled";

export function alertStatus(hook: Hook, now: number, { autoDisable }: HookBehaviour): AlertStatus {
  if (!autoDisable) return "executable";
  if (hook.failures > LAST_FAILURES) return "disabled";
  const isOff = hook.failures > TOLERATED_FAILURES && (hook.disabledUntil ?? 0) >= now;
  return isOff ? "temporarily_disabled" : "executable";
}

/** A success, also that of a test, forgets all failures before it. */
export function noteSuccess(hook: Hook): void {
  hook.failures = 0;
  hook.disabledUntil = undefined;
}

/** The fourth failure in a row switches the hook off for a minute, each further one for twice as long, at most a day. */
export function noteFailure(hook: Hook, now: number, behaviour: HookBehaviour): void {
  // What was under way when the hook was switched off does not count.
  if (!behaviour.autoDisable || alertStatus(hook, now, behaviour) !== "executable") return;
  hook.failures++;
  const beyond = hook.failures - TOLERATED_FAILURES - 1;
  if (beyond >= 0) hook.disabledUntil = now + Math.min(DAY_MS, MINUTE_MS * 2 ** beyond);
}

/** How GitLab treats hooks. May be changed while the stand-in runs. */
export interface HookBehaviour {
  /** `19.2.0`. Before 19.0 there are no signatures, and dates are as Ruby prints them. */
  version: string;
  /** How long a receiver may take. */
  timeoutMs: number;
  /** Hooks that fail are switched off, as on GitLab.com. An own GitLab does that only where it is turned on. */
  autoDisable: boolean;
  /** Group hooks are there from the Premium plan on. */
  groupHooks: boolean;
  /** Whether receivers may be in the local network, as an administrator allows. */
  localReceivers: boolean;
  /** Certificates (PEM) of the authority that GitLab trusts beside the usual ones. */
  ca: string | undefined;
}

export const gitlabHookBehaviour: HookBehaviour = {
  version: "19.2.0",
  timeoutMs: 10_000,
  autoDisable: true,
  groupHooks: true,
  localReceivers: true,
  ca: undefined,
};
