import type { ServerResponse } from "node:http";
import { aPayload } from "../builders/payload.ts";
import { answer, type Handler, type SeenRequest, startHttpServer, type TestServer } from "./http-server.ts";

interface Queue {
  pending: number[];
  lastUpdate: number;
  /** Long polls that wait for a change. */
  holding: Set<() => void>;
}

interface Answered {
  readonly token: string;
  readonly lastUpdate: unknown;
  readonly at: number;
  readonly status: number;
  readonly held: boolean;
}

export interface JobQueueServer extends AsyncDisposable {
  readonly url: string;
  /** Job requests in the order of their answers. */
  readonly answered: Answered[];
  /** Every job handed out, with when it was queued and given (epoch ms). */
  readonly given: { id: number; token: string; queuedAt: number; at: number }[];
  /** `PUT /jobs/:id` and `PATCH …/trace`, as they came. */
  readonly updates: SeenRequest[];
  /** Job requests whose client went away before the answer. */
  aborted(): number;
  openRequests(token?: string): number;
  mostOpen(): number;
  enqueue(token: string, ...ids: number[]): void;
  /** Answers the next job request in this way instead; several are used in order. */
  next(handler: Handler): void;
}

/**
 * The part of GitLab that gives jobs: a request whose `last_update` is current is held until something changes and answered 204
 * without a new value (the gate in front of GitLab does that); any other is answered at once by the queue itself.
 */
export async function startJobQueue(options: {
  tokens: readonly string[];
  holdMs?: number;
  longPolling?: boolean;
  /** How long the queue thinks about each answer. */
  answerMs?: number;
}): Promise<JobQueueServer> {
  const { holdMs = 50_000, longPolling = true, answerMs = 0 } = options;
  const queues = new Map<string, Queue>(
    options.tokens.map((token) => [token, { pending: [], lastUpdate: 1, holding: new Set() }]),
  );
  const answered: Answered[] = [];
  const given: { id: number; token: string; queuedAt: number; at: number }[] = [];
  const updates: SeenRequest[] = [];
  const faults: Handler[] = [];
  const queuedAt = new Map<number, number>();
  const open = new Map<ServerResponse, string>();
  let aborted = 0;
  let mostOpen = 0;

  async function handle(request: SeenRequest, response: ServerResponse): Promise<void> {
    if (request.path !== "/api/v4/jobs/request") {
      updates.push(request);
      answer(response, request.method === "PUT" ? 200 : 202, undefined, { "Job-Status": "failed" });
      return;
    }
    const token = String(request.json?.["token"]);
    watch(response, token);
    const fault = faults.shift();
    if (fault) await fault(request, response);
    else await serve(token, request.json?.["last_update"], response);
  }

  function watch(response: ServerResponse, token: string): void {
    open.set(response, token);
    mostOpen = Math.max(mostOpen, open.size);
    response.on("close", () => {
      open.delete(response);
      if (!response.writableFinished && !response.headersSent) aborted++;
    });
  }

  async function serve(token: string, lastUpdate: unknown, response: ServerResponse): Promise<void> {
    const queue = queues.get(token);
    const note = (status: number, held: boolean) =>
      answered.push({ token, lastUpdate, at: Date.now(), status, held });
    if (!queue) {
      note(403, false);
      return answer(response, 403, { message: "403 Forbidden" });
    }
    if (lastUpdate === String(queue.lastUpdate)) {
      if (longPolling) await change(queue);
      note(204, true);
      return answer(response, 204, undefined, { "Gitlab-Ci-Builds-Polling": "yes" });
    }
    const id = queue.pending.shift();
    if (answerMs > 0) await new Promise((resolve) => setTimeout(resolve, answerMs));
    note(id === undefined ? 204 : 201, false);
    if (id === undefined) {
      return answer(response, 204, undefined, { "X-GitLab-Last-Update": String(queue.lastUpdate) });
    }
    given.push({ id, token, queuedAt: queuedAt.get(id) ?? 0, at: Date.now() });
    return answer(response, 201, aPayload({ id }));
  }

  async function change(queue: Queue): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      queue.holding.add(resolve);
      timer = setTimeout(resolve, holdMs);
    });
    clearTimeout(timer);
    queue.holding.clear();
  }

  function release(): void {
    for (const queue of queues.values()) for (const done of queue.holding) done();
  }

  const server: TestServer = await startHttpServer(handle);
  return {
    url: server.url,
    answered,
    given,
    updates,
    aborted: () => aborted,
    openRequests: (token) =>
      [...open.values()].filter((each) => token === undefined || each === token).length,
    mostOpen: () => mostOpen,
    enqueue(token, ...ids) {
      const queue = queues.get(token);
      if (!queue) throw new Error(`no queue for ${token}`);
      for (const id of ids) queuedAt.set(id, Date.now());
      queue.pending.push(...ids);
      queue.lastUpdate++;
      for (const done of queue.holding) done();
    },
    next: (handler) => faults.push(handler),
    async [Symbol.asyncDispose]() {
      release();
      await server[Symbol.asyncDispose]();
    },
  };
}
