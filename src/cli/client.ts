/**
 * The running FireRunner as commands see it: `withDaemon` for those that need one, `withViews` for those that read from the store where
 * none runs. Both use a client of the control socket, whose answers are checked against the schemas of views/.
 */

import { join } from "node:path";
import { Agent, type Dispatcher, request } from "undici";
import type { z } from "zod";
import { systemClock } from "../base/clock.ts";
import { systemCode } from "../base/errors.ts";
import {
  Done,
  EventList,
  EventView,
  type JobFilter,
  JobList,
  JobStory,
  type ListFilter,
  MachineList,
  Problem,
  RetriedJob,
  SOCKET_NAME,
  Status,
  type Views,
} from "../views/api.ts";
import { type TrialOrder, TrialStep } from "../views/trial-api.ts";
import type { UsageViews } from "../views/usage.ts";
import type { AllViews } from "../views/views.ts";
import {
  DeliveryList,
  OneRunner,
  RunnerList,
  type RunnerView,
  WebhookStatus,
  type WebhookViews,
} from "../views/webhook-api.ts";
import { type Context, signalOnInterrupt } from "./context.ts";
import { CliError, DaemonError, isNotRunning } from "./errors.ts";
import type { Output } from "./output.ts";

const ANSWER_LIMIT_MS = 30_000;

/** A running FireRunner, over its control socket. Every call throws `cli_not_running` when nobody answers. */
export interface DaemonClient
  extends Pick<Views, "jobs" | "job" | "machines">,
    Pick<WebhookViews, "runners" | "deliveries"> {
  status(): Promise<Status>;
  webhook(): Promise<WebhookStatus>;
  createRunner(tags: readonly string[]): Promise<RunnerView>;
  /** By our key or GitLab's id. */
  deleteRunner(name: string): Promise<RunnerView>;
  /** The end of a machine's console, and what comes when `follow` is given, until the signal aborts. */
  console(machineId: string, options: ConsoleOptions): AsyncIterable<string>;
  /** The end of a running job's log, and what comes when `follow` is given, until the signal aborts. Throws `not_found` where there is none. */
  jobLog(jobId: number, options: ConsoleOptions): AsyncIterable<string>;
  /** The newest, oldest first. */
  events(filter: { readonly last: number }): Promise<EventView[]>;
  /** Calls `tell` with what happens behind an event, one after the other, until the signal aborts. */
  followEvents(
    after: number,
    signal: AbortSignal,
    tell: (event: EventView) => void | Promise<void>,
  ): Promise<void>;
  retryJob(id: number): Promise<RetriedJob>;
  post(action: "drain" | "resume" | "reload" | "runners/prune"): Promise<string[]>;
  /** Returns what was done, in words. */
  host(name: string, action: "drain" | "resume" | "forget"): Promise<string[]>;
  /** Tries a host out: each step as it is done, until the signal aborts. */
  tryHost(order: TrialOrder, signal: AbortSignal): AsyncIterable<TrialStep>;
  close(): Promise<void>;
}

interface Call {
  readonly method?: "GET" | "POST" | "DELETE";
  readonly body?: object;
  readonly signal?: AbortSignal;
}

interface ConsoleOptions {
  readonly bytes: number;
  readonly follow: boolean;
  readonly signal: AbortSignal;
}

/** Talks to the FireRunner of this configuration, and closes the connection. */
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

const POLL_MS = 1_000;

/** `waitWhile` something is left by the status. False when Ctrl-C has ended the waiting. */
export async function waitUntilDone(
  { output }: Context,
  daemon: DaemonClient,
  remaining: (status: Status) => string | undefined,
): Promise<boolean> {
  using interrupt = signalOnInterrupt();
  const { signal } = interrupt;
  return await waitWhile(output, { everyMs: POLL_MS, signal }, async () => remaining(await daemon.status()));
}

/**
 * Waits until nothing is left. `remaining` says what is, and undefined when nothing; it is shown whenever it has changed. False when the
 * signal has ended the waiting.
 */
export async function waitWhile(
  output: Output,
  { everyMs, signal }: { readonly everyMs: number; readonly signal: AbortSignal },
  remaining: () => Promise<string | undefined>,
): Promise<boolean> {
  let shown = "";
  while (!signal.aborted) {
    const words = await remaining();
    if (words === undefined) return true;
    if (words !== shown) output.note(words);
    shown = words;
    await systemClock.sleep(everyMs, signal).catch(() => {});
  }
  return false;
}

type Reads = Pick<Views, "jobs" | "job" | "machines"> & Pick<WebhookViews, "runners">;

/** Reads from the running FireRunner, or, when none runs, from the store it left. */
export async function withViews<Result>(
  context: Context,
  read: (views: Reads) => Promise<Result>,
): Promise<Result> {
  const { state } = await context.loadLocalConfig();
  const daemon = createDaemonClient(state);
  try {
    return await read(daemon);
  } catch (error) {
    if (!isNotRunning(error)) throw error;
    return await readOffline(context, state, read, error);
  } finally {
    await daemon.close();
  }
}

async function readOffline<Result>(
  { output }: Context,
  state: string,
  read: (views: Reads) => Promise<Result>,
  notRunning: CliError,
): Promise<Result> {
  return await readStore(state, notRunning, async (views) => {
    output.note(`FireRunner does not run; this is what it left in ${state}.`);
    return await read(views);
  });
}

/**
 * Reads from the store itself, whether FireRunner runs or not: what goes through all of it would hold up everything else that the running
 * program does.
 */
export async function withStore<Result>(
  context: Context,
  read: (views: UsageViews) => Promise<Result>,
): Promise<Result> {
  const { state } = await context.loadLocalConfig();
  return await readStore(state, undefined, read);
}

/** `absent`: what is thrown when there is no store, or none that can be read; without it the reason. */
async function readStore<Result>(
  state: string,
  absent: CliError | undefined,
  read: (views: AllViews) => Promise<Result>,
): Promise<Result> {
  // Loaded only where it is needed: asking a running FireRunner should not cost the loading of the store.
  const { openOfflineViews } = await import("../views/views.ts");
  const views = await openOfflineViews(state).catch((error: unknown) => {
    throw absent ?? error;
  });
  try {
    return await read(views);
  } finally {
    await views.close();
  }
}

export function createDaemonClient(stateDirectory: string): DaemonClient {
  const { send, call, close } = connectControl(stateDirectory);
  async function* text(path: string, { bytes, follow, signal }: ConsoleOptions) {
    const body = await send(`${path}?bytes=${bytes}&follow=${follow ? 1 : 0}`, { signal });
    yield* body.setEncoding("utf8") as AsyncIterable<string>;
  }
  return {
    status: () => call(Status, "/v1/status"),
    jobs: async (filter) => (await call(JobList, `/v1/jobs${listQuery(filter)}`)).jobs,
    machines: async (filter) => (await call(MachineList, `/v1/machines${listQuery(filter)}`)).machines,
    job: (id) => call(JobStory, `/v1/jobs/${id}`),
    console: (machineId, options) => text(`/v1/machines/${encodeURIComponent(machineId)}/console`, options),
    jobLog: (jobId, options) => text(`/v1/jobs/${jobId}/log`, options),
    webhook: () => call(WebhookStatus, "/v1/webhook"),
    runners: async ({ gone } = {}) => (await call(RunnerList, `/v1/runners?gone=${gone ? 1 : 0}`)).runners,
    deliveries: async (filter) =>
      (await call(DeliveryList, `/v1/deliveries${query({ ...filter })}`)).deliveries,
    createRunner: async (tags) =>
      (await call(OneRunner, "/v1/runners", { method: "POST", body: { tags } })).runner,
    deleteRunner: async (name) =>
      (await call(OneRunner, `/v1/runners/${encodeURIComponent(name)}`, { method: "DELETE" })).runner,
    events: async (filter) => (await call(EventList, `/v1/events${query({ ...filter })}`)).events,
    async followEvents(after, signal, tell) {
      const body = await send(`/v1/events/stream?after=${after}`, { signal });
      try {
        for await (const event of eventsOf(body)) await tell(event);
      } catch (error) {
        // Ctrl-C is how following ends.
        if (!signal.aborted) throw error;
      }
    },
    retryJob: (id) => call(RetriedJob, `/v1/jobs/${id}/retry`, { method: "POST" }),
    post: async (action) => (await call(Done, `/v1/${action}`, { method: "POST" })).messages,
    host: async (name, action) =>
      (await call(Done, `/v1/hosts/${encodeURIComponent(name)}/${action}`, { method: "POST" })).messages,
    async *tryHost(order, signal) {
      yield* trialSteps(await send("/v1/trials", { method: "POST", body: order, signal }));
    },
    close,
  };
}

/** HTTP on the control socket; whatever is no success is thrown. */
function connectControl(stateDirectory: string) {
  const socketPath = join(stateDirectory, SOCKET_NAME);
  const agent = new Agent({ connect: { socketPath }, headersTimeout: ANSWER_LIMIT_MS, bodyTimeout: 0 });

  async function send(path: string, { method = "GET", body, signal }: Call) {
    let response: Dispatcher.ResponseData;
    try {
      response = await request(`http://control${path}`, {
        method,
        dispatcher: agent,
        ...(signal ? { signal } : {}),
        ...(body ? { body: JSON.stringify(body), headers: { "content-type": "application/json" } } : {}),
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
    options: Call = {},
  ): Promise<z.infer<Schema>> {
    const body = await (await send(path, options)).json();
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

  return { send, call, close: () => agent.destroy() };
}

type Body = Dispatcher.ResponseData["body"];

/** One in a line, and empty lines between. */
async function* trialSteps(body: Body): AsyncGenerator<TrialStep> {
  for await (const line of linesOf(body)) if (line !== "") yield TrialStep.parse(JSON.parse(line));
}

/** Server-sent events, of which the data tells all. */
async function* eventsOf(body: Body): AsyncGenerator<EventView> {
  for await (const line of linesOf(body)) {
    const event = line.startsWith("data: ") ? EventView.safeParse(JSON.parse(line.slice(6))) : undefined;
    // What is told of events that are no longer kept is none.
    if (event?.success) yield event.data;
  }
}

async function* linesOf(body: Body): AsyncGenerator<string> {
  let unfinished = "";
  for await (const text of body.setEncoding("utf8")) {
    const lines = `${unfinished}${text}`.split("\n");
    unfinished = lines.pop() ?? "";
    yield* lines;
  }
}

/** Only what is given; lists with commas between. */
function query(given: Readonly<Record<string, unknown>>): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(given))
    if (value !== undefined) parameters.set(name, String(value));
  return parameters.size > 0 ? `?${parameters}` : "";
}

function listQuery({ live, ...others }: ListFilter | JobFilter = {}): string {
  return query({ ...others, ...(live ? { live: 1 } : {}) });
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
