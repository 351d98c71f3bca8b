import { join } from "node:path";
import { Agent, type Dispatcher, request } from "undici";
import type { z } from "zod";
import { systemCode } from "../base/errors.ts";
import {
  Done,
  JobList,
  JobStory,
  type ListFilter,
  MachineList,
  Problem,
  SOCKET_NAME,
  Status,
  type Views,
} from "../http/api.ts";
import type { Context } from "./context.ts";
import { CliError, DaemonError } from "./errors.ts";

const ANSWER_LIMIT_MS = 30_000;

/** A running FireRunner, over its control socket. Every call throws `cli_not_running` when nobody answers. */
export interface DaemonClient extends Pick<Views, "jobs" | "job" | "machines"> {
  status(): Promise<Status>;
  /** The end of a machine's console, and what comes when `follow` is given, until the signal aborts. */
  console(machineId: string, options: ConsoleOptions): AsyncIterable<string>;
  post(action: "drain" | "resume" | "reload"): Promise<string[]>;
  close(): Promise<void>;
}

interface ConsoleOptions {
  readonly bytes: number;
  readonly follow: boolean;
  readonly signal: AbortSignal;
}

export function createDaemonClient(stateDirectory: string): DaemonClient {
  const socketPath = join(stateDirectory, SOCKET_NAME);
  const agent = new Agent({ connect: { socketPath }, headersTimeout: ANSWER_LIMIT_MS, bodyTimeout: 0 });

  async function send(method: "GET" | "POST", path: string, signal?: AbortSignal) {
    let response: Dispatcher.ResponseData;
    try {
      response = await request(`http://control${path}`, {
        method,
        dispatcher: agent,
        ...(signal ? { signal } : {}),
      });
    } catch (cause) {
      signal?.throwIfAborted();
      throw unreachable(stateDirectory, cause);
    }
    if (response.statusCode < 300) return response.body;
    throw await refusal(response);
  }

  async function call<Schema extends z.ZodType>(
    schema: Schema,
    path: string,
    method: "GET" | "POST" = "GET",
  ): Promise<z.infer<Schema>> {
    const body = await (await send(method, path)).json();
    const parsed = schema.safeParse(body);
    if (parsed.success) return parsed.data;
    throw new CliError(
      "cli_strange_answer",
      "the running FireRunner answered in a way this command does not know",
      {
        cause: parsed.error,
        hint: "It is of another version: restart it.",
      },
    );
  }

  return {
    status: () => call(Status, "/v1/status"),
    jobs: async (filter) => (await call(JobList, `/v1/jobs${query(filter)}`)).jobs,
    machines: async (filter) => (await call(MachineList, `/v1/machines${query(filter)}`)).machines,
    job: (id) => call(JobStory, `/v1/jobs/${id}`),
    async *console(machineId, { bytes, follow, signal }) {
      const path = `/v1/machines/${encodeURIComponent(machineId)}/console`;
      const body = await send("GET", `${path}?bytes=${bytes}&follow=${follow ? 1 : 0}`, signal);
      yield* body.setEncoding("utf8");
    },
    post: async (action) => (await call(Done, `/v1/${action}`, "POST")).messages,
    close: () => agent.destroy(),
  };
}

function query({ live, limit }: ListFilter = {}): string {
  const parameters = new URLSearchParams();
  if (live) parameters.set("live", "1");
  if (limit) parameters.set("limit", String(limit));
  return parameters.size > 0 ? `?${parameters}` : "";
}

async function refusal({ statusCode, body }: Dispatcher.ResponseData): Promise<DaemonError> {
  const parsed = Problem.safeParse(await body.json().catch(() => undefined));
  if (!parsed.success) return new DaemonError("internal", `the running FireRunner answered ${statusCode}`);
  const { code, message, hint } = parsed.data;
  return new DaemonError(code, message, hint === null ? {} : { hint });
}

function unreachable(stateDirectory: string, cause: unknown): CliError {
  const code = systemCode(cause);
  if (code === "EACCES" || code === "EPERM") {
    return new CliError("cli_not_allowed", `this user may not talk to the FireRunner in ${stateDirectory}`, {
      cause,
      hint: "Use the user it runs as (root, with sudo, for a system service).",
    });
  }
  return new CliError("cli_not_running", `no FireRunner runs with the state directory ${stateDirectory}`, {
    cause,
    hint: "Start it with “firerunner start”. If one runs, it uses another state directory: name its configuration with --config FILE.",
  });
}

/** Talks to the FireRunner of this configuration, and lets go of it. */
export async function withDaemon<Result>(
  context: Context,
  use: (daemon: DaemonClient) => Promise<Result>,
): Promise<Result> {
  const { state } = await context.loadLocalConfig();
  const daemon = createDaemonClient(state);
  try {
    return await use(daemon);
  } finally {
    await daemon.close();
  }
}
