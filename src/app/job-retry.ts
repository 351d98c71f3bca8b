/** Jobs that failed by no fault of their own script, run anew by GitLab at somebody's word. */
import { type FailureCause, failures } from "../domain/job-end.ts";
import type { GitLabRest } from "../gitlab/rest-api.ts";
import { HttpError } from "../server/errors.ts";
import type { ControlPorts } from "../server/routes/ports.ts";
import type { Job, JobStore } from "../store/store.ts";

export interface JobRetryDeps {
  readonly store: Pick<JobStore, "job">;
  /** With the access token; undefined when the configuration has none. */
  readonly rest: Pick<GitLabRest, "retryJob"> | undefined;
}

/** Throws HttpError `not_found`, `conflict` (it runs, or its end is its own doing), `not_configured` without an access token; and GitLabError. */
export function createJobRetry({ store, rest }: JobRetryDeps): ControlPorts["retryJob"] {
  return async (id) => {
    const job = await store.job(id);
    if (job === undefined) throw new HttpError("not_found", `job ${id} is not known here`);
    const cause = blamedOn(job);
    if (rest === undefined)
      throw new HttpError("not_configured", "GitLab can only be asked for it with an access token", {
        hint: "Give webhook.apiTokenFile in the configuration, or retry the job in GitLab.",
      });
    const { id: next, webUrl } = await rest.retryJob(job.project, id);
    return { id: next, webUrl, note: failures[cause].isWorthRetry ? null : failures[cause].hint };
  };
}

function blamedOn({ id, state, result, cause }: Job): FailureCause {
  if (state !== "finished") throw new HttpError("conflict", `job ${id} has not ended: it is ${state}`);
  if (result === "failed" && cause !== null && cause !== "script") return cause;
  const how = result === "failed" ? "its own script failed" : `it ended as ${result}`;
  throw new HttpError("conflict", `job ${id} is not for FireRunner to retry: ${how}`, {
    hint: "Retry it in GitLab.",
  });
}
