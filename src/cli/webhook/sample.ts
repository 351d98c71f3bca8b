/** A delivery as GitLab makes it, for `webhook send`: body and headers. */

import type { Secret } from "../../base/secret.ts";
import { signDelivery } from "../../gitlab/webhook-signature.ts";

/** What GitLab says of a job or a pipeline, for trying FireRunner out without GitLab. */
interface Sample {
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

interface SampleDelivery {
  /** `Job Hook` and the like. */
  readonly event: string;
  /** What tells it from others: the same again is a duplicate. */
  readonly id: string;
  readonly body: string;
  /** Epoch ms. */
  readonly now: number;
}

interface Proof {
  readonly signingKey: Secret | undefined;
  readonly token: Secret | undefined;
}

/** The headers that GitLab 19.0 sends, signed and with the secret token as far as they are given. */
export function deliveryHeaders(
  { event, id, body, now }: SampleDelivery,
  { signingKey, token }: Proof,
): Record<string, string> {
  const timestamp = Math.floor(now / 1_000);
  return {
    "content-type": "application/json",
    "user-agent": "firerunner webhook send",
    "x-gitlab-event": event,
    "x-gitlab-webhook-uuid": id,
    "x-gitlab-event-uuid": id,
    "idempotency-key": id,
    "webhook-id": id,
    "webhook-timestamp": String(timestamp),
    ...(token ? { "x-gitlab-token": token.reveal() } : {}),
    ...(signingKey ? { "webhook-signature": signDelivery(signingKey, { id, timestamp, body }) } : {}),
  };
}
