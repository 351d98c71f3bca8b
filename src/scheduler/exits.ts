import type { FailureCause, JobFailure } from "../domain/job-end.ts";
import type { Exit, ExitKind } from "../vm/driver.ts";

const causes: Partial<Record<ExitKind, FailureCause>> = {
  "host-disk": "host-disk",
  "disk-error": "host-disk",
  "host-memory": "memory",
};

/** Why a job fails whose machine ended so. `hadJob`: its guest had taken it. */
export function failureOfExit({ exit, words }: Exit, hadJob: boolean): JobFailure {
  const what: Record<ExitKind, string> = {
    orderly: hadJob
      ? "the guest powered off without reporting a result"
      : "the guest powered off before it took the job",
    crash: "the machine crashed",
    killed: "the machine was killed from outside",
    "host-disk": "the disk of its host is full, so the machine was ended",
    "disk-error": "the disk of its host did not take what the machine wrote, so it was ended",
    "host-memory":
      "the machine was killed from outside, and its host's kernel has killed for want of memory while it ran",
    lost: "the machine disappeared and nobody saw how it ended",
  };
  const reason = words === undefined ? what[exit] : `${what[exit]}: ${words}`;
  return { reason, cause: causes[exit] ?? "machine" };
}
