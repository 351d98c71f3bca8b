/** What GitLab says of a job or a pipeline, for trying FireRunner out without GitLab. */
export interface Sample {
  readonly event: HookEvent;
  readonly projectId: number;
  /** Job or pipeline, as the event says. */
  readonly id: number;
  readonly status: string;
}

export const hookEvents = { job: "Job Hook", pipeline: "Pipeline Hook" } as const;
export type HookEvent = keyof typeof hookEvents;

/** The fields that are read, and enough around them to look like GitLab's (18.9). `now` is epoch ms. */
export function sampleBody({ event, projectId, id, status }: Sample, now: number): string {
  const project = {
    id: projectId,
    name: "sample",
    web_url: "https://gitlab.example.com/sample/project",
    path_with_namespace: "sample/project",
  };
  const at = new Date(now).toISOString();
  const body =
    event === "job"
      ? {
          object_kind: "build",
          ref: "main",
          tag: false,
          build_id: id,
          build_name: "sample",
          build_stage: "test",
          build_status: status,
          build_created_at_iso: at,
          build_started_at_iso: null,
          build_finished_at_iso: null,
          pipeline_id: 1,
          runner: null,
          project_id: projectId,
          project_name: "Sample / Project",
          project,
        }
      : {
          object_kind: "pipeline",
          object_attributes: {
            id,
            iid: 1,
            ref: "main",
            tag: false,
            status,
            created_at: at,
            finished_at: null,
          },
          project,
          builds: [],
        };
  return JSON.stringify(body);
}
