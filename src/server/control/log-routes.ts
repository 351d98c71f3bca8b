/**
 * What is written by machines and jobs, as text: a machine's console, and the end of a running job's log. With `follow` the answer goes on
 * with what comes.
 */
import { Readable } from "node:stream";
import type { FastifyInstance, FastifyReply } from "fastify";
import { z } from "zod";
import { isMachineId } from "../../base/ids.ts";
import { MIB_BYTES } from "../../base/units.ts";
import { isLocalHost } from "../../domain/placement.ts";
import type { JobStory } from "../../views/api.ts";
import { HttpError } from "../errors.ts";
import type { RouteDeps } from "./ports.ts";

export const flag = z
  .enum(["0", "1"])
  .default("0")
  .transform((text) => text === "1");
export const JobParams = z.object({ id: z.coerce.number().int().positive() });
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

export function registerLogRoutes(app: FastifyInstance, deps: RouteDeps): void {
  registerConsole(app, deps);
  registerJobLog(app, deps);
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
    return reply.send(Readable.from(tailThenFollow(ports, id, bytes, untilGone(reply, closing))));
  });
}

/** An empty answer would say that the machine is silent, and following it would never end. */
function noConsole(id: string, host: string): HttpError {
  return new HttpError("not_found", `machine ${id} is on the host ${host}, which shows no console`, {
    hint: `On ${host} itself its console is the file firecracker.stdout below /var/lib/flintlock/vm.`,
  });
}

/** Aborts when nobody reads any more, or the server closes. */
function untilGone(reply: FastifyReply, closing: AbortSignal): AbortSignal {
  const gone = new AbortController();
  reply.raw.on("close", () => gone.abort());
  return AbortSignal.any([gone.signal, closing]);
}

interface Console {
  console(machineId: string, maxBytes: number): Promise<string>;
  followConsole(machineId: string, signal: AbortSignal): AsyncIterable<string>;
}

/**
 * The end of a console and then what comes. Following begins before the end is read, so that nothing falls between the
 * two: a line may come twice, none is lost.
 */
async function* tailThenFollow(
  { console, followConsole }: Console,
  machineId: string,
  maxBytes: number,
  signal: AbortSignal,
): AsyncGenerator<string> {
  const following = followConsole(machineId, signal)[Symbol.asyncIterator]();
  const first = following.next();
  // Looked at below; until then its failure must not count as unhandled.
  first.catch(() => {});
  try {
    const tail = await console(machineId, maxBytes);
    if (tail !== "") yield tail;
    for (let next = await first; !next.done; next = await following.next()) yield next.value;
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    await following.return?.();
  }
}

function registerJobLog(app: FastifyInstance, { views, ports, closing }: RouteDeps): void {
  app.get("/v1/jobs/:id/log", async ({ params, query }, reply) => {
    const { id } = JobParams.parse(params);
    const { follow, bytes } = ConsoleQuery.parse(query);
    const story = await views.job(id);
    const text = ports.jobLogs.tail(id, bytes);
    if (story === undefined || text === undefined) throw await noLog(id, story, ports);
    reply.type("text/plain; charset=utf-8");
    if (!follow) return text;
    return reply.send(Readable.from(ports.jobLogs.follow(id, bytes, untilGone(reply, closing))));
  });
}

/** Where the log is instead, or when there will be one. */
async function noLog(id: number, story: JobStory | undefined, ports: RouteDeps["ports"]): Promise<HttpError> {
  if (story === undefined) {
    return new HttpError("not_found", `job ${id} is not known here`, {
      hint: "This FireRunner has neither claimed nor noticed it, or it ended long ago.",
    });
  }
  const why = `“firerunner why ${id}” tells its story.`;
  if (!("job" in story) || story.job.state === "claimed" || story.job.state === "starting") {
    return new HttpError("not_found", `job ${id} has no log yet: it has not begun`, {
      hint: `“firerunner logs ${id} -f” waits for it. ${why}`,
    });
  }
  const { state, project } = story.job;
  const page = project === "" ? "its page" : `${(await ports.status()).gitlabUrl}/${project}/-/jobs/${id}`;
  const isRunning = state === "running";
  return new HttpError(
    "not_found",
    isRunning
      ? `nothing of the log of job ${id} has come by since FireRunner was started`
      : `job ${id} has ended, and its log is in GitLab alone`,
    { hint: `GitLab has all of it: ${page}. ${why}` },
  );
}
