import { FireRunnerError } from "../base/errors.ts";
import { Secret } from "../base/secret.ts";
import { JobPayload } from "../gitlab/runner-api.ts";
import type { JobStore } from "../store/store.ts";
import { SchedulerError } from "./errors.ts";

/** The payload of an unfinished job, for its token and for masking. Throws `scheduler_no_payload`. */
export async function readPayload(store: Pick<JobStore, "payload">, jobId: number): Promise<JobPayload> {
  const doing = `reading the payload of job ${jobId}`;
  const raw = await store.payload(jobId).catch((cause: unknown) => {
    if (!(cause instanceof FireRunnerError) || cause.retryable) throw cause;
    throw new SchedulerError("scheduler_no_payload", doing, { cause });
  });
  if (raw === undefined) throw new SchedulerError("scheduler_no_payload", `${doing}: it is not there`);
  try {
    return JobPayload.parse(JSON.parse(raw));
  } catch {
    // The foreign error quotes what it could not parse, which is full of secrets.
    throw new SchedulerError("scheduler_no_payload", `${doing}: it is not what GitLab sends`);
  }
}

export function jobTokenOf(payload: JobPayload): Secret {
  return new Secret(payload.token);
}
