import { z } from "zod";
import { byPages } from "./pages.ts";
import type { ApiJob } from "./rest-api.ts";
import type { RestCall, RestClient } from "./rest-client.ts";

const Job = z
  .object({
    id: z.number(),
    name: z.string(),
    status: z.string(),
    tag_list: z.array(z.string()).nullish(),
    created_at: z.string(),
    web_url: z.string().nullish(),
    ref: z.string().nullish(),
  })
  .transform(
    (job): ApiJob => ({
      id: job.id,
      name: job.name,
      status: job.status,
      tags: job.tag_list ?? [],
      createdAt: Date.parse(job.created_at) || 0,
      webUrl: job.web_url ?? "",
      ref: job.ref ?? "",
    }),
  );

/** Jobs with their tags, which webhooks do not carry. */
export function createJobCalls(client: RestClient) {
  return {
    async pendingJobs(projectId: number, signal?: AbortSignal): Promise<ApiJob[]> {
      const path = `/projects/${projectId}/jobs?scope[]=pending&pagination=keyset&order_by=id&sort=desc`;
      const doing = `listing the pending jobs of project ${projectId}`;
      return await client.list(jobCall(byPages(path), doing, signal), Job);
    },

    async job(projectId: number, jobId: number, signal?: AbortSignal): Promise<ApiJob> {
      const doing = `reading job ${jobId} of project ${projectId}`;
      return await client.read(jobCall(`/projects/${projectId}/jobs/${jobId}`, doing, signal), Job);
    },
  };
}

function jobCall(path: string, doing: string, signal: AbortSignal | undefined): RestCall {
  return {
    method: "GET",
    path,
    doing,
    scope: "read_api",
    role: "the role Reporter in the project, or higher",
    missing: "it was deleted, or the API token cannot see it: make the token's user a member of the project",
    signal,
  };
}
