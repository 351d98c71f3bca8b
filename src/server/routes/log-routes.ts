/**
 * What is written by machines and jobs, as text: a machine's console, and the end of a running job's log. With `follow` the answer goes on
 * with what comes.
 */
import { z } from "zod";
import { MIB_BYTES } from "../../base/units.ts";
import { isLocalHost } from "../../domain/placement.ts";
import type { JobStory } from "../../views/api.ts";
import { HttpError } from "../errors.ts";
import { flag, JobParams, machineId } from "./parameters.ts";
import type { ControlPorts } from "./ports.ts";
import { type Route, route } from "./route.ts";

const MachineParams = z.object({ id: machineId });
const ConsoleQuery = z.object({
  follow: flag,
  bytes: z.coerce
    .number()
    .int()
    .min(0)
    .max(8 * MIB_BYTES)
    .default(65_536),
});

export const logRoutes: readonly Route[] = [
  route({
    method: "GET",
    path: "/machines/:id/console",
    role: "operator",
    summary: "The end of a machine's console, and with follow=1 what comes.",
    params: MachineParams,
    query: ConsoleQuery,
    answers: "text/plain",
    async handle({ params: { id }, query: { follow, bytes }, signal }, { views, ports }) {
      const machine = await views.machine(id);
      if (!machine) {
        throw new HttpError("not_found", `machine ${id} is not known here`, {
          hint: "“firerunner machines --all” lists those of the past as well.",
        });
      }
      if (!isLocalHost(machine.host)) throw noConsole(id, machine.host);
      return follow ? tailThenFollow(ports, id, bytes, signal) : await ports.console(id, bytes);
    },
  }),
  route({
    method: "GET",
    path: "/jobs/:id/log",
    role: "operator",
    summary:
      "The end of a running job's log, and with follow=1 what comes. That of an ended job is in GitLab.",
    params: JobParams,
    query: ConsoleQuery,
    answers: "text/plain",
    async handle({ params: { id }, query: { follow, bytes }, signal }, { views, ports }) {
      const story = await views.job(id);
      const text = ports.jobLogs.tail(id, bytes);
      if (story === undefined || text === undefined) throw await noLog(id, story, ports);
      return follow ? ports.jobLogs.follow(id, bytes, signal) : text;
    },
  }),
];

/** An empty answer would say that the machine is silent, and following it would never end. */
function noConsole(id: string, host: string): HttpError {
  return new HttpError("not_found", `machine ${id} is on the host ${host}, which shows no console`, {
    hint: `On ${host} itself its console is the file firecracker.stdout below /var/lib/flintlock/vm.`,
  });
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
  } finally {
    await following.return?.();
  }
}

/** Where the log is instead, or when there will be one. */
async function noLog(id: number, story: JobStory | undefined, ports: ControlPorts): Promise<HttpError> {
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
