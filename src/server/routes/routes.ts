/** Everything that may be asked of the running program. What is shown comes from the views; what is done goes through ports. */
import { z } from "zod";
import { jobResults, jobStates } from "../../domain/states.ts";
import { Done, JobList, JobStory, MachineList, RetriedJob, Status } from "../../views/api.ts";
import { composeStatus } from "../../views/status.ts";
import { HttpError } from "../errors.ts";
import { eventRoutes } from "./event-routes.ts";
import { hostRoutes } from "./host-routes.ts";
import { logRoutes } from "./log-routes.ts";
import { flag, JobParams } from "./parameters.ts";
import { type Route, route } from "./route.ts";
import { webhookRoutes } from "./webhook-routes.ts";

/** What to say of a job that nobody here has heard of. */
const hints = {
  pooled:
    "FireRunner has not claimed it, or it ended long ago. A job that waits in GitLab needs a pool whose runner has all of the job's tags: see “firerunner status”.",
  tagged:
    "FireRunner has neither claimed nor noticed it, or it ended long ago. A job that waits in GitLab needs a tag that names a machine, such as firecracker-2cpu-4gb, and its project must be known: see “firerunner webhook status”.",
};
const ListQuery = z.object({ live: flag, limit: z.coerce.number().int().min(1).max(10_000).optional() });

const JobsQuery = ListQuery.extend({
  project: z.string().min(1).max(1_000).optional(),
  pool: z.string().min(1).max(2_000).optional(),
  states: wordsOf(jobStates).optional(),
  results: wordsOf(jobResults).optional(),
  since: z.coerce.number().int().min(0).optional(),
});

/** Some of the words, with commas between. */
function wordsOf<const Word extends string>(words: readonly [Word, ...Word[]]) {
  const one = `(?:${words.join("|")})`;
  return z
    .string()
    .regex(new RegExp(`^${one}(?:,${one})*$`), `expected some of ${words.join(", ")}, with commas between`)
    .transform((text) => text.split(","))
    .pipe(z.array(z.enum(words)).min(1));
}

const shown: readonly Route[] = [
  route({
    method: "GET",
    path: "/status",
    role: "viewer",
    summary: "How FireRunner is: its pools, hosts, unfinished jobs, and what is in the way.",
    answers: Status,
    handle: (_asked, { ports, views }) => composeStatus(ports, views),
  }),
  route({
    method: "GET",
    path: "/jobs",
    role: "viewer",
    summary: "Jobs that were claimed here, newest first.",
    query: JobsQuery,
    answers: JobList,
    handle: async ({ query }, { views }) => ({ jobs: await views.jobs(query) }),
  }),
  route({
    method: "GET",
    path: "/jobs/:id",
    role: "viewer",
    summary: "One job with everything that happened to it, and why it is where it is.",
    params: JobParams,
    answers: JobStory,
    async handle({ params: { id } }, { views, ports }) {
      const report = await views.job(id);
      if (report) return report;
      throw new HttpError("not_found", `job ${id} is not known here`, {
        hint: ports.webhook ? hints.tagged : hints.pooled,
      });
    },
  }),
  route({
    method: "GET",
    path: "/machines",
    role: "viewer",
    summary: "Machines, newest first.",
    query: ListQuery,
    answers: MachineList,
    handle: async ({ query }, { views }) => ({ machines: await views.machines(query) }),
  }),
];

const steering: readonly Route[] = [
  route({
    method: "POST",
    path: "/drain",
    role: "operator",
    summary: "Claims no new jobs; running ones go on.",
    answers: Done,
    async handle(_asked, { ports }) {
      await ports.drain();
      return { messages: ["no new jobs are claimed; running jobs go on"] };
    },
  }),
  route({
    method: "POST",
    path: "/resume",
    role: "operator",
    summary: "Claims jobs again.",
    answers: Done,
    async handle(_asked, { ports }) {
      await ports.resume();
      return { messages: ["jobs are claimed again"] };
    },
  }),
  route({
    method: "POST",
    path: "/reload",
    role: "operator",
    summary: "Reads the configuration again, and says what has changed.",
    answers: Done,
    handle: async (_asked, { ports }) => ({ messages: [...(await ports.reload())] }),
  }),
  route({
    method: "POST",
    path: "/jobs/:id/retry",
    role: "operator",
    summary: "Has GitLab run a job anew that failed by no fault of its own script.",
    params: JobParams,
    answers: RetriedJob,
    handle: ({ params: { id } }, { ports }) => ports.retryJob(id),
  }),
];

export const allRoutes: readonly Route[] = [
  ...shown,
  ...logRoutes,
  ...eventRoutes,
  ...webhookRoutes,
  ...hostRoutes,
  ...steering,
];
