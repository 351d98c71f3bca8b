import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { crc32 } from "node:zlib";

/** What a job's runner has told GitLab so far. */
interface JobRecord {
  trace: Buffer;
  readonly states: Record<string, unknown>[];
  readonly artifacts: { query: URLSearchParams; body: Buffer; filename: string }[];
  readonly requests: string[];
  jobRequest: Record<string, unknown> | undefined;
}

export interface RunnerGitLab extends AsyncDisposable {
  readonly url: string;
  readonly record: JobRecord;
  /** What GitLab answers to everything that is said about the job from now on, in `Job-Status`. */
  jobStatus: string;
  /** Answers given once each, before the true ones: by method and path, such as `PUT /api/v4/jobs/7`. */
  readonly faults: Map<string, ((response: ServerResponse) => unknown)[]>;
  /** Bodies of `GET …/artifacts`, by job id. */
  readonly archives: Map<number, Buffer>;
  /** Resolves with the body of the final PUT. */
  readonly finished: Promise<Record<string, unknown>>;
}

/**
 * GitLab's side of one job, strict about what a runner sends: ranges, tokens, the final checksum. With `relay` it listens
 * on that unix socket and gives the boot data, as the relay of a machine does.
 */
export async function startRunnerGitLab(
  payload: { id: number; token: string },
  relay?: { readonly socketPath: string; readonly bootData: string },
): Promise<RunnerGitLab> {
  const record: JobRecord = {
    trace: Buffer.alloc(0),
    states: [],
    artifacts: [],
    requests: [],
    jobRequest: undefined,
  };
  const finished = Promise.withResolvers<Record<string, unknown>>();
  const faults = new Map<string, ((response: ServerResponse) => unknown)[]>();
  const archives = new Map<number, Buffer>();
  let isHandedOut = false;
  const server = createServer((request, response) => void answer(request, response));
  await new Promise<void>((resolve) => {
    if (relay) server.listen(relay.socketPath, resolve);
    else server.listen(0, "127.0.0.1", resolve);
  });
  const url = relay ? "http://relay" : `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await readBody(request);
    const address = new URL(request.url ?? "/", url);
    const what = `${request.method} ${address.pathname}`;
    record.requests.push(what);
    const fault = faults.get(what)?.shift();
    if (fault) {
      fault(response);
      return;
    }
    if (relay && what === "GET /firerunner/boot") {
      response.writeHead(200, { "content-length": Buffer.byteLength(relay.bootData) }).end(relay.bootData);
      return;
    }
    if (what === "POST /api/v4/jobs/request") return requestJob(response, body);
    if (what === `PATCH /api/v4/jobs/${payload.id}/trace`) return patchTrace(request, response, body);
    if (what === `PUT /api/v4/jobs/${payload.id}`) return update(response, body);
    if (what === `POST /api/v4/jobs/${payload.id}/artifacts`) return upload(request, response, address, body);
    const archive = archives.get(Number(/^GET \/api\/v4\/jobs\/(\d+)\/artifacts$/.exec(what)?.[1]));
    if (archive) {
      response.writeHead(200, { "content-type": "application/zip" }).end(archive);
      return;
    }
    response.writeHead(404).end();
  }

  function requestJob(response: ServerResponse, body: Buffer): void {
    record.jobRequest = JSON.parse(body.toString());
    if (isHandedOut) {
      response.writeHead(204).end();
      return;
    }
    isHandedOut = true;
    response.writeHead(201, { "content-type": "application/json" }).end(JSON.stringify(payload));
  }

  function patchTrace(request: IncomingMessage, response: ServerResponse, body: Buffer): void {
    const [, start = "", end = ""] = /^(\d+)-(\d+)$/.exec(`${request.headers["content-range"]}`) ?? [];
    if (request.headers["job-token"] !== payload.token) {
      response.writeHead(403).end();
      return;
    }
    if (api.jobStatus === "canceled") {
      refuse(response);
      return;
    }
    const right =
      Number(start) === record.trace.length && Number(end) === record.trace.length + body.length - 1;
    if (right) record.trace = Buffer.concat([record.trace, body]);
    const headers = {
      "job-status": api.jobStatus,
      range: `0-${record.trace.length}`,
      "x-gitlab-trace-update-interval": "1",
    };
    response.writeHead(right ? 202 : 416, headers).end();
  }

  function update(response: ServerResponse, body: Buffer): void {
    const state = JSON.parse(body.toString());
    record.states.push(state);
    if (state.token !== payload.token || api.jobStatus === "canceled") {
      refuse(response);
      return;
    }
    if (state.state !== "running") {
      const checksum = `crc32:${crc32(record.trace).toString(16).padStart(8, "0")}`;
      if (state.output.checksum !== checksum || state.output.bytesize !== record.trace.length)
        finished.reject(new Error(`the checksum is ${state.output.checksum}, not ${checksum}`));
      else finished.resolve(state);
    }
    response.writeHead(200, { "job-status": state.state === "running" ? api.jobStatus : state.state }).end();
  }

  function upload(request: IncomingMessage, response: ServerResponse, address: URL, body: Buffer): void {
    if (request.headers["job-token"] !== payload.token) {
      response.writeHead(403).end();
      return;
    }
    const headEnd = body.indexOf("\r\n\r\n") + 4;
    const boundary = /boundary=(.+)$/.exec(`${request.headers["content-type"]}`)?.[1];
    const tail = Buffer.from(`\r\n--${boundary}--\r\n`);
    const filename = /filename="([^"]*)"/.exec(body.toString("latin1", 0, headEnd))?.[1] ?? "";
    record.artifacts.push({
      query: address.searchParams,
      filename,
      body: body.subarray(headEnd, body.length - tail.length),
    });
    response.writeHead(201).end();
  }

  function refuse(response: ServerResponse): void {
    response.writeHead(403, { "job-status": api.jobStatus }).end();
  }

  const api: RunnerGitLab = {
    url,
    record,
    jobStatus: "running",
    faults,
    archives,
    finished: finished.promise,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return api;
}

async function readBody(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}
