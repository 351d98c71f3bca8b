/** What a build or a push is doing. `fraction` (0 to 1, of the phase) only where it is known; `line` is a detail for people. */
export interface BuildProgress {
  readonly phase: BuildPhase;
  readonly fraction?: number;
  readonly line?: string;
}

export type BuildPhase =
  | "check"
  | "packages"
  | "base"
  | "kernel"
  | "runner"
  | "store"
  | "pack"
  | "push"
  | "done";

export type OnProgress = (progress: BuildProgress) => void;
