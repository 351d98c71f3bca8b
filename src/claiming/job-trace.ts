import { isSampled, traceOfGitLab, traceOfJob } from "../domain/trace-context.ts";
import type { JobPayload } from "../gitlab/runner-api.ts";
import type { Claim } from "../store/store.ts";

interface TraceRule {
  readonly installationId: string;
  /** The share of traces that is kept, 0 to 1; undefined when nobody wants any. Asked for each job. */
  readonly share: () => number | undefined;
}

/** Says of each job that is claimed to which trace it belongs, or that it is to have none. */
export function createTraceRule({ installationId, share }: TraceRule) {
  return (payload: JobPayload): Claim["trace"] => {
    const kept = share();
    if (kept === undefined) return undefined;
    const { tracing } = payload.features ?? {};
    const context =
      traceOfGitLab(tracing?.trace_id, tracing?.span_parent_id) ?? traceOfJob(installationId, payload.id);
    if (!isSampled(context.traceId, kept)) return undefined;
    const { pipeline_id: pipelineId, project_id: projectId } = payload.job_info;
    return {
      ...context,
      pipelineId: idIn(pipelineId),
      projectId: idIn(projectId),
    };
  };
}

function idIn(value: unknown): number | null {
  return typeof value === "number" && Number.isSafeInteger(value) && value > 0 ? value : null;
}
