import { Readable } from "node:stream";
import type { FastifyInstance } from "fastify";
import { z } from "zod";
import { isMachineId } from "../../base/ids.ts";
import { MIB_BYTES } from "../../base/units.ts";
import { isLocalHost } from "../../domain/placement.ts";
import type { JobView, Status } from "../../views/api.ts";
import type { WaitingView } from "../../views/webhook-api.ts";
import { HttpError } from "../errors.ts";
import { tailThenFollow } from "./console-stream.ts";
import { registerHostRoutes } from "./host-routes.ts";
import type { RouteDeps } from "./ports.ts";
import { composeWebhook, registerWebhookRoutes } from "./webhook-routes.ts";

const RECENT = 8;
/** What to say of a job that nobody here has heard of. */
const hints = {
  pooled:
    "FireRunner has not claimed it, or it ended long ago. A job that waits in GitLab needs a pool whose runner has all of the job's tags: see “firerunner status”.",
  tagged:
    "FireRunner has neither claimed nor noticed it, or it ended long ago. A job that waits in GitLab needs a tag that names a machine, such as firecracker-2cpu-4gb, and its project must be known: see “firerunner webhook status”.",
};
const flag = z
  .enum(["0", "1"])
  .default("0")
  .transform((text) => text === "1");
const ListQuery = z.object({ live: flag, limit: z.coerce.number().int().min(1).max(10_000).optional() });
const JobParams = z.object({ id: z.coerce.number().int().positive() });
const MachineParams = z.object({
  id: z.string().refine(isMachineId, "a machine's id looks like fr-abcd2345"),
});
const ConsoleQuery = z.object({
  follow: flag,
  bytes: z.coerce
    .number()
    .int()
    .min(0)
    .max(8 * MIB_BYTES)
    .default(65_536),
});

export function registerRoutes(app: FastifyInstance, deps: RouteDeps): void {
  const { views, ports } = deps;
  app.get("/v1/status", async () => await composeStatus(deps));
  app.get("/v1/jobs", async ({ query }) => ({ jobs: await views.jobs(ListQuery.parse(query)) }));
  app.get("/v1/jobs/:id", async ({ params }) => {
    const { id } = JobParams.parse(params);
    const report = await views.job(id);
    if (report) return report;
    throw new HttpError("not_found", `job ${id} is not known here`, {
      hint: ports.webhook ? hints.tagged : hints.pooled,
    });
  });
  app.get("/v1/machines", async ({ query }) => ({ machines: await views.machines(ListQuery.parse(query)) }));
  registerConsole(app, deps);
  registerWebhookRoutes(app, deps);
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

function registerConsole(app: FastifyInstance, { views, ports, closing }: RouteDeps): void {
  app.get("/v1/machines/:id/console", async ({ params, query }, reply) => {
    const { id } = MachineParams.parse(params);
    const { follow, bytes } = ConsoleQuery.parse(query);
    const machine = await views.machine(id);
    if (!machine) {
      throw new HttpError("not_found", `machine ${id} is not known here`, {
        hint: "“firerunner machines --all” lists those of the past as well.",
      });
    }
    if (!isLocalHost(machine.host)) throw noConsole(id, machine.host);
    reply.type("text/plain; charset=utf-8");
    if (!follow) return await ports.console(id, bytes);
    const gone = new AbortController();
    reply.raw.on("close", () => gone.abort());
    const signal = AbortSignal.any([gone.signal, closing]);
    return reply.send(Readable.from(tailThenFollow(ports, id, bytes, signal)));
  });
}

/** An empty answer would say that the machine is silent, and following it would never end. */
function noConsole(id: string, host: string): HttpError {
  return new HttpError("not_found", `machine ${id} is on the host ${host}, which shows no console`, {
    hint: `On ${host} itself its console is the file firecracker.stdout below /var/lib/flintlock/vm.`,
  });
}

/** A set of tags is of interest while somebody asks for it: there may be hundreds that were asked for once. */
function isShown(
  { name, origin }: Pick<Status["pools"][number], "name" | "origin">,
  waiting: readonly WaitingView[],
  unfinished: readonly JobView[],
): boolean {
  return (
    origin === "configured" ||
    waiting.some((job) => job.pool === name) ||
    unfinished.some((job) => job.pool === name)
  );
}

/** A job that has been claimed and has no machine yet is queued as one that waits in GitLab is: what it lacks is the machine. */
function countsOf(
  pool: string,
  unfinished: readonly JobView[],
  waiting: readonly WaitingView[],
): Pick<Status["pools"][number], "running" | "starting" | "queued" | "waiting"> {
  const count = (wanted: JobView["state"]) =>
    unfinished.filter((job) => job.pool === pool && job.state === wanted).length;
  const starting = count("starting");
  const queued = count("claimed") + waiting.filter((job) => job.pool === pool).length;
  return { running: count("running"), starting, queued, waiting: starting + queued };
}

async function composeStatus({ views, ports }: RouteDeps): Promise<Status> {
  const { webhook, publicServer } = ports;
  const [daemon, unfinished, newest, machines, tagged, readiness] = await Promise.all([
    ports.status(),
    views.jobs({ live: true }),
    views.jobs({ limit: 100 }),
    views.machines({ live: true }),
    webhook ? composeWebhook(webhook, publicServer, views) : null,
    publicServer ? publicServer.readiness() : null,
  ]);
  const waiting = tagged?.waiting ?? [];
  return {
    ...daemon,
    pools: daemon.pools
      .filter((pool) => isShown(pool, waiting, unfinished))
      .map((pool) => ({
        ...pool,
        ...countsOf(pool.name, unfinished, waiting),
      })),
    unfinished,
    liveMachines: machines.length,
    recent: newest
      .filter(({ state }) => state === "finished")
      .toSorted((a, b) => (b.finishedAt ?? 0) - (a.finishedAt ?? 0))
      .slice(0, RECENT),
    door:
      publicServer && readiness
        ? { addresses: [...publicServer.addresses()], problems: [...readiness.problems] }
        : null,
    webhook: tagged,
  };
}
