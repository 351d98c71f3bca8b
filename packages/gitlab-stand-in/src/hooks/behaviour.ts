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
