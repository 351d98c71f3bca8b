/** One question to this computer or to GitLab. */
export interface DoctorCheck {
  /** A word or two for the first column. */
  readonly name: string;
  run(signal: AbortSignal): Promise<Finding>;
}

export interface Finding {
  /** `warn`: works, but less well than it could; `fail`: jobs cannot be run. */
  readonly level: "ok" | "warn" | "fail";
  /** What was found, and what it means. */
  readonly message: string;
  /** What to do about it. */
  readonly hint?: string;
}

/** The FireRunner that runs on the same state directory. */
export interface RunningFireRunner {
  /** Where it listens, as bound: `https://0.0.0.0:8443`. */
  readonly addresses: readonly string[];
}
