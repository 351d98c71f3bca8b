/**
 * What the command line asks of the running program, over the control socket: one route for each. What is shown comes from the views; what
 * is done goes through ports, so that nothing here knows the modules behind them.
 */
import { Readable } from "node:stream";
import type { FastifyInstance } from "fastify";
import { z } from "zod";
import { jobResults, jobStates } from "../../domain/states.ts";
import { composeStatus, composeWebhook, type PublicServerReads } from "../../views/status.ts";
import { TrialOrder, type TrialStep } from "../../views/trial-api.ts";
import { toRunnerView } from "../../views/views.ts";
import { RunnerRequest, type RunnerView, type WebhookViews } from "../../views/webhook-api.ts";
import { HttpError } from "../errors.ts";
import { flag, JobParams, registerLogRoutes } from "./log-routes.ts";
import type { HostPorts, RouteDeps, WebhookPorts } from "./ports.ts";

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
  pool: z.string().min(1).max(20_000).optional(),
  states: wordsOf(jobStates).optional(),
  results: wordsOf(jobResults).optional(),
  since: z.coerce.number().int().min(0).optional(),
});
/** Some of the words, with commas between. */
function wordsOf<const Word extends string>(words: readonly [Word, ...Word[]]) {
  return z
    .string()
    .transform((text) => text.split(","))
    .pipe(z.array(z.enum(words)).min(1));
}

export function registerRoutes(app: FastifyInstance, deps: RouteDeps): void {
  const { views, ports } = deps;
  app.get("/v1/status", async () => await composeStatus(ports, views));
  app.get("/v1/jobs", async ({ query }) => ({ jobs: await views.jobs(JobsQuery.parse(query)) }));
  app.get("/v1/jobs/:id", async ({ params }) => {
    const { id } = JobParams.parse(params);
    const report = await views.job(id);
    if (report) return report;
    throw new HttpError("not_found", `job ${id} is not known here`, {
      hint: ports.webhook ? hints.tagged : hints.pooled,
    });
  });
  app.get("/v1/machines", async ({ query }) => ({ machines: await views.machines(ListQuery.parse(query)) }));
  registerLogRoutes(app, deps);
  registerWebhookRoutes(app, views, ports);
  registerHostRoutes(app, { hosts: ports.hosts, closing: deps.closing });
  app.post("/v1/drain", async () => {
    await ports.drain();
    return { messages: ["no new jobs are claimed; running jobs go on"] };
  });
  app.post("/v1/resume", async () => {
    await ports.resume();
    return { messages: ["jobs are claimed again"] };
  });
  app.post("/v1/reload", async () => ({ messages: [...(await ports.reload())] }));
}

const HostParams = z.object({ name: z.string().min(1), action: z.enum(["drain", "resume", "forget"]) });

function registerHostRoutes(
  app: FastifyInstance,
  { hosts, closing }: { readonly hosts: HostPorts; readonly closing: AbortSignal },
): void {
  app.post("/v1/hosts/:name/:action", async ({ params }) => {
    const { name, action } = HostParams.parse(params);
    return { messages: [...(await hosts[action](name))] };
  });
  app.post("/v1/trials", async ({ body }, reply) => {
    const order = TrialOrder.parse(body);
    const gone = new AbortController();
    reply.raw.on("close", () => gone.abort(new Error("nobody waits for the trial any more")));
    const signal = AbortSignal.any([gone.signal, closing]);
    const steps = hosts.tryHost(order, signal);
    reply.type("application/x-ndjson");
    return reply.send(Readable.from(lines(steps, signal)));
  });
}

/** An empty line first: whoever waits sees at once that the trial has begun. */
async function* lines(steps: AsyncIterable<TrialStep>, signal: AbortSignal): AsyncGenerator<string> {
  yield "\n";
  try {
    for await (const step of steps) yield `${JSON.stringify(step)}\n`;
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

const RunnersQuery = z.object({ gone: flag });
const RunnerParams = z.object({
  name: z
    .string()
    .regex(
      /^(r-[a-z0-9]{1,32}|\d{1,15})$/,
      "a runner is named by its key, such as r-abcd2345, or by GitLab's id",
    ),
});
const DeliveriesQuery = z.object({
  since: z.coerce.number().int().min(0).optional(),
  limit: z.coerce.number().int().min(1).max(1_000).optional(),
});

/** What `firerunner runner` and `firerunner webhook` ask for. */
function registerWebhookRoutes(
  app: FastifyInstance,
  views: WebhookViews,
  ports: {
    readonly webhook?: WebhookPorts | undefined;
    readonly publicServer?: PublicServerReads | undefined;
  },
): void {
  const webhook = () => ports.webhook ?? absent();
  app.get("/v1/runners", async ({ query }) => ({ runners: await views.runners(RunnersQuery.parse(query)) }));
  app.post("/v1/runners", async ({ body }) => {
    const { runners } = webhook();
    const { tags } = RunnerRequest.parse(body);
    return { runner: toRunnerView(await runners.create(tags)) };
  });
  app.post("/v1/runners/prune", async () => ({ messages: [...(await webhook().runners.prune())] }));
  app.delete("/v1/runners/:name", async ({ params }) => {
    const { runners } = webhook();
    const { name } = RunnerParams.parse(params);
    const known = await knownRunner(views, name);
    await runners.retire(known.key);
    return { runner: (await views.runners({ gone: true })).find(({ key }) => key === known.key) ?? known };
  });
  app.get("/v1/webhook", async () => await composeWebhook(webhook(), ports.publicServer, views));
  app.get("/v1/deliveries", async ({ query }) => {
    webhook();
    return { deliveries: await views.deliveries(DeliveriesQuery.parse(query)) };
  });
}

function absent(): never {
  throw new HttpError("bad_request", "the configuration has no “webhook”", {
    hint: "docs/webhooks.md shows how to set it up: an API token, a signing key, an address to listen on.",
  });
}

async function knownRunner(views: WebhookViews, name: string): Promise<RunnerView> {
  const found = (await views.runners()).find(
    ({ key, gitlabId }) => key === name || String(gitlabId) === name,
  );
  if (found) return found;
  throw new HttpError("not_found", `there is no runner ${name} of this FireRunner`, {
    hint: "“firerunner runner list” shows those there are. Runners that somebody else made are deleted in GitLab.",
  });
}
