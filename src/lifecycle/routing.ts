/** Which machine a job asks for by its tags. Pure. */
import type { MachineKind } from "./pool.ts";
import type { Size } from "./size.ts";

/** What the configuration says about tags. */
export interface TagRules {
  /** `firecracker` in `firecracker-2cpu-4gb`; compared without regard to case. */
  readonly prefix: string;
  readonly maxCpus: number;
  readonly maxMemoryMib: number;
  /** In order; the first whose `tag` the job has decides. Compared exactly, as GitLab compares tags. */
  readonly rules: readonly { readonly tag: string; readonly kind: MachineKind }[];
  /** For jobs with none of these tags. */
  readonly kind: MachineKind;
  /** Why a driver cannot make machines of this size, in words; undefined when it can. */
  readonly sizeProblem: (driver: string, size: Size) => string | undefined;
}

/** The machine that a set of tags asks for. */
export interface Route {
  /** Sorted, as spelled: what the runner must have. */
  readonly tags: readonly string[];
  readonly size: Size;
  readonly kind: MachineKind;
}

export type Routing =
  | { readonly kind: "route"; readonly route: Route }
  /** It names a machine of ours, but one that cannot be had; `reason` in words. */
  | { readonly kind: "refused"; readonly reason: string }
  /** No tag with our prefix: somebody else's job. */
  | { readonly kind: "foreign" };
