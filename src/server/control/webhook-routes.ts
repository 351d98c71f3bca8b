import type { FastifyInstance } from "fastify";
import { z } from "zod";
import { composeWebhook, type PublicServerReads } from "../../views/status.ts";
import { RunnerRequest, type RunnerView, type WebhookViews } from "../../views/webhook-api.ts";
import { toRunnerView } from "../../views/webhook-views.ts";
import { HttpError } from "../errors.ts";
import type { WebhookPorts } from "./ports.ts";

const RunnersQuery = z.object({
  gone: z
    .enum(["0", "1"])
    .default("0")
    .transform((text) => text === "1"),
});
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
export function registerWebhookRoutes(
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
