/** What `firerunner runner` and `firerunner webhook` ask for: jobs by tag, and the runners in GitLab for them. */
import { z } from "zod";
import { Done } from "../../views/api.ts";
import { composeWebhook } from "../../views/status.ts";
import { toRunnerView } from "../../views/views.ts";
import {
  DeliveryList,
  OneRunner,
  RunnerList,
  RunnerRequest,
  type RunnerView,
  WebhookStatus,
  type WebhookViews,
} from "../../views/webhook-api.ts";
import { HttpError } from "../errors.ts";
import { flag } from "./parameters.ts";
import type { ControlPorts, WebhookPorts } from "./ports.ts";
import { type Route, route } from "./route.ts";

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

export const webhookRoutes: readonly Route[] = [
  route({
    method: "GET",
    path: "/runners",
    role: "viewer",
    summary: "Runners in GitLab that FireRunner has made for jobs by tag, oldest first.",
    query: RunnersQuery,
    answers: RunnerList,
    handle: async ({ query }, { views }) => ({ runners: await views.runners(query) }),
  }),
  route({
    method: "POST",
    path: "/runners",
    role: "admin",
    summary: "Makes a runner in GitLab for these tags, if there is none.",
    body: RunnerRequest,
    answers: OneRunner,
    async handle({ body: { tags } }, { ports }) {
      return { runner: toRunnerView(await webhookOf(ports).runners.create(tags)) };
    },
  }),
  route({
    method: "POST",
    path: "/runners/prune",
    role: "admin",
    summary: "Deletes runners in GitLab that nobody needs.",
    answers: Done,
    handle: async (_asked, { ports }) => ({ messages: [...(await webhookOf(ports).runners.prune())] }),
  }),
  route({
    method: "DELETE",
    path: "/runners/:name",
    role: "admin",
    summary: "Deletes a runner in GitLab, by its key or GitLab's id.",
    params: RunnerParams,
    answers: OneRunner,
    async handle({ params: { name } }, { views, ports }) {
      const { runners } = webhookOf(ports);
      const known = await knownRunner(views, name);
      await runners.retire(known.key);
      const all = await views.runners({ gone: true });
      return { runner: all.find(({ key }) => key === known.key) ?? known };
    },
  }),
  route({
    method: "GET",
    path: "/webhook",
    role: "viewer",
    summary: "Jobs by tag: what is received, which jobs wait, what is in the way.",
    answers: WebhookStatus,
    handle: (_asked, { ports, views }) => composeWebhook(webhookOf(ports), ports.publicServer, views),
  }),
  route({
    method: "GET",
    path: "/deliveries",
    role: "viewer",
    summary: "Webhooks that were taken, newest first.",
    query: DeliveriesQuery,
    answers: DeliveryList,
    async handle({ query }, { views, ports }) {
      webhookOf(ports);
      return { deliveries: await views.deliveries(query) };
    },
  }),
];

function webhookOf({ webhook }: Pick<ControlPorts, "webhook">): WebhookPorts {
  if (webhook) return webhook;
  throw new HttpError("not_configured", "the configuration has no “webhook”", {
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
