/** The insides of fake machines: runners that speak HTTP to their machines' sockets, and to GitLab itself for comparison. */
import { createReadStream, globSync } from "node:fs";
import { open } from "node:fs/promises";
import { connect } from "node:net";
import { performance } from "node:perf_hooks";
import { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { Agent, type Dispatcher, request } from "undici";
import { run } from "../../src/base/process.ts";
import { CACHE_BUCKET } from "../../src/cache/request.ts";
import { serveParent } from "./child.ts";
import type { MachineStarted } from "./manager-process.ts";

/** How a job of a bench goes on: the first line of its script, as JSON. */
export type Work =
  /** It logs a line every 3 s for so long, and succeeds. */
  | { readonly runMs: number }
  /** It waits for what the bench does in its name. */
  | { readonly hold: true };

/** The guest of a job that waits has its payload. */
export interface Held {
  readonly jobId: number;
}

export interface Latencies {
  readonly name: string;
  /** One pair each: through the relay, and straight to GitLab. */
  readonly relayMs: number[];
  readonly directMs: number[];
}

export interface Pair {
  readonly relayJobId: number;
  /** A runner of GitLab whose next job is taken for the direct way. */
  readonly direct: { readonly url: string; readonly token: string };
}

interface CacheRound {
  readonly jobId: number;
  readonly bytes: number;
  /** The directory of caches, and a file of ours on the same disk. */
  readonly cacheFiles: string;
  readonly byHand: string;
  readonly relayFirst: boolean;
}

export interface CacheTimes {
  readonly up: number;
  readonly written: number;
  readonly down: number;
  readonly read: number;
}

interface Payload {
  readonly id: number;
  readonly token: string;
  readonly job_info: { readonly project_id: number };
  readonly steps: readonly { readonly script: readonly string[] }[];
}

/** A runner's connection, and the job it has. */
interface Line {
  readonly dispatcher: Dispatcher;
  /** The relay's, of a machine. */
  readonly socketPath: string;
  readonly origin: string;
  readonly jobId: number;
  readonly projectId: number;
  readonly token: string;
  traceBytes: number;
}

const TRACE_INTERVAL_MS = 3_000;
const LOG_LINE = `${"x".repeat(199)}\n`;
const features = { variables: true, artifacts: true, refspecs: true, masking: true, cancelable: true };
const held = new Map<number, Line>();

async function play({ machineId, socketPath }: MachineStarted): Promise<void> {
  const dispatcher = new Agent({ connect: { socketPath }, headersTimeout: 0, bodyTimeout: 0 });
  const origin = "http://relay";
  const boot = await call(dispatcher, origin, "GET", "/firerunner/boot");
  const token = /^token=(.*)$/m.exec(boot.text)?.[1] ?? "";
  const line = await claim({ dispatcher, socketPath, origin }, token);
  if (!line) throw new Error(`machine ${machineId} got no job`);
  await put(line, "running");
  if ("hold" in line.work) {
    held.set(line.jobId, line);
    tell({ jobId: line.jobId });
    return;
  }
  await work(line, line.work.runMs);
  await dispatcher.close();
}

async function work(line: Line, runMs: number): Promise<void> {
  const endsAt = performance.now() + runMs;
  for (let left = runMs; left > 0; left = endsAt - performance.now()) {
    await sleep(Math.min(left, TRACE_INTERVAL_MS));
    await patch(line, LOG_LINE);
  }
  await put(line, "success");
}

async function claim(
  { dispatcher, socketPath = "", origin }: Pick<Line, "dispatcher" | "origin"> & { socketPath?: string },
  token: string,
): Promise<(Line & { readonly work: Work }) | undefined> {
  const info = { name: "gitlab-runner", executor: "shell", shell: "bash", features };
  const { status, text } = await sendJson(dispatcher, origin, "POST", "/api/v4/jobs/request", {
    token,
    info,
  });
  if (status !== 201) return undefined;
  const payload = JSON.parse(text) as Payload;
  const script = payload.steps[0]?.script[0] ?? "{}";
  const { id: jobId, job_info: about } = payload;
  const ids = { jobId, projectId: about.project_id, token: payload.token };
  const line = { dispatcher, socketPath, origin, ...ids, traceBytes: 0 };
  return Object.assign(line, { work: JSON.parse(script) as Work });
}

function put(line: Line, state: "running" | "success") {
  const { dispatcher, origin, jobId, token } = line;
  return sendJson(dispatcher, origin, "PUT", `/api/v4/jobs/${jobId}`, { token, state });
}

async function patch(line: Line, text: string) {
  const range = `${line.traceBytes}-${line.traceBytes + text.length - 1}`;
  const headers = { "JOB-TOKEN": line.token, "Content-Range": range, "Content-Type": "text/plain" };
  const answer = await call(line.dispatcher, line.origin, "PATCH", pathOf(line, "trace"), headers, text);
  if (answer.status === 202) line.traceBytes += text.length;
  return answer;
}

const pathOf = ({ jobId }: Line, what: string) => `/api/v4/jobs/${jobId}/${what}`;

function upload(line: Line, bytes: number) {
  const headers = { "JOB-TOKEN": line.token, "Content-Type": "multipart/form-data; boundary=cut" };
  const path = pathOf(line, "artifacts?artifact_format=zip&artifact_type=archive");
  return call(line.dispatcher, line.origin, "POST", path, headers, Readable.from(form(bytes)));
}

/** An upload made as it is sent, as the runner makes it. */
function* form(bytes: number): Generator<Buffer> {
  yield Buffer.from('--cut\r\nContent-Disposition: form-data; name="file"; filename="a.zip"\r\n\r\n');
  yield* pieces(bytes);
  yield Buffer.from("\r\n--cut--\r\n");
}

function* pieces(bytes: number): Generator<Buffer> {
  const chunk = Buffer.alloc(64 * 1024, 7);
  for (let left = bytes; left > 0; left -= chunk.length)
    yield chunk.subarray(0, Math.min(left, chunk.length));
}

const cacheOf = ({ jobId, projectId }: Line) =>
  `/${CACHE_BUCKET}/project/${projectId}/cache-of-${jobId}-protected`;

/** A piece that is sent again and again, and one that is read into: the client is to cost as little as the runner's does. */
const sent = Buffer.alloc(256 * 1024, 7);
const received = Buffer.alloc(256 * 1024);

async function storeCache(line: Line, bytes: number): Promise<void> {
  const head = `PUT ${cacheOf(line)} HTTP/1.1\r\nHost: relay\r\nContent-Length: ${bytes}\r\nConnection: close\r\n\r\n`;
  const answer = await spoken(line, head, bytes);
  if (!answer.head.startsWith("HTTP/1.1 200 ")) throw new Error(`storing a cache: ${answer.head}`);
}

async function fetchCache(line: Line, bytes: number): Promise<void> {
  const head = `GET ${cacheOf(line)} HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n`;
  const answer = await spoken(line, head, 0);
  const body = answer.bytes - answer.head.indexOf("\r\n\r\n") - 4;
  if (!answer.head.startsWith("HTTP/1.1 200 ") || body !== bytes)
    throw new Error(`fetching a cache: ${body} bytes behind ${answer.head}`);
}

/** One request on a connection of its own, with so many bytes behind its head. Of the answer only the beginning is kept. */
async function spoken({ socketPath }: Line, head: string, bytes: number) {
  const answer = { head: "", bytes: 0 };
  const onread = {
    buffer: received,
    callback(length: number) {
      if (answer.bytes === 0) answer.head = received.toString("latin1", 0, Math.min(length, 1_024));
      answer.bytes += length;
      return true;
    },
  };
  const socket = connect({ path: socketPath, onread });
  const closed = new Promise<void>((resolve, reject) => socket.once("close", resolve).once("error", reject));
  socket.write(head);
  for (let left = bytes; left > 0; left -= sent.length) {
    const piece = left < sent.length ? sent.subarray(0, left) : sent;
    await new Promise<void>((resolve, reject) => {
      socket.write(piece, (error) => (error ? reject(error) : resolve()));
    });
  }
  await closed;
  return answer;
}

/** What the disk does by itself: the same pieces into a file of its own, on the disk when this is done. */
async function writeByHand(path: string, bytes: number): Promise<void> {
  const handle = await open(path, "w");
  try {
    for (const piece of pieces(bytes)) await handle.write(piece);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function readByHand(path: string): Promise<void> {
  for await (const _ of createReadStream(path, { highWaterMark: 256 * 1024 }));
}

/** The next reading comes from the disk: the system forgets what it has of this file. */
async function forget(path: string): Promise<void> {
  await run("dd", [`if=${path}`, "iflag=nocache", "count=0", "status=none"]);
}

async function inTime(work: () => Promise<void>): Promise<number> {
  const startedAt = performance.now();
  await work();
  return performance.now() - startedAt;
}

function heldLine(jobId: number): Line {
  const line = held.get(jobId);
  if (!line) throw new Error(`job ${jobId} is not here`);
  return line;
}

async function download(line: Line) {
  return await call(line.dispatcher, line.origin, "GET", pathOf(line, "artifacts"), {
    "JOB-TOKEN": line.token,
  });
}

function sendJson(
  dispatcher: Dispatcher,
  origin: string,
  method: "POST" | "PUT",
  path: string,
  body: object,
) {
  const headers = { "Content-Type": "application/json" };
  return call(dispatcher, origin, method, path, headers, JSON.stringify(body));
}

async function call(
  dispatcher: Dispatcher,
  origin: string,
  method: Dispatcher.HttpMethod,
  path: string,
  headers: Readonly<Record<string, string>> = {},
  body?: string | Readable,
): Promise<{ status: number; text: string }> {
  const response = await request(`${origin}${path}`, {
    method,
    dispatcher,
    headers,
    ...(body === undefined ? {} : { body }),
  });
  return { status: response.statusCode, text: await response.body.text() };
}

/** The same request on both lines, which comes first changing from pair to pair. */
async function inPairs(
  name: string,
  count: number,
  { relay, direct }: { relay: Line; direct: Line },
  act: (line: Line) => Promise<{ status: number; text: string }>,
): Promise<Latencies> {
  const found: Latencies = { name, relayMs: [], directMs: [] };
  for (let pair = 0; pair < count; pair++) {
    const order = pair % 2 === 0 ? [relay, direct] : [direct, relay];
    for (const line of order) {
      const startedAt = performance.now();
      const { status, text } = await act(line);
      const tookMs = performance.now() - startedAt;
      if (status >= 300) throw new Error(`${name}: ${status} ${text}`);
      (line === relay ? found.relayMs : found.directMs).push(tookMs);
    }
  }
  return found;
}

async function linesOf({ relayJobId, direct }: Pair): Promise<{ relay: Line; direct: Line }> {
  const relay = held.get(relayJobId);
  const dispatcher = new Agent({ headersTimeout: 0, bodyTimeout: 0 });
  const line = await claim({ dispatcher, origin: direct.url }, direct.token);
  if (!relay || !line) throw new Error("a job for one of the two ways is missing");
  return { relay, direct: line };
}

async function end({ relay, direct }: { relay: Line; direct: Line }): Promise<void> {
  for (const line of [relay, direct]) {
    await put(line, "success");
    await line.dispatcher.close();
    held.delete(line.jobId);
  }
}

const handlers = {
  play: async (machine: MachineStarted) => {
    play(machine).catch((error: unknown) => console.error(`guest of ${machine.machineId}:`, error));
  },
  /** Small requests of a running job, each both ways. */
  latencies: async ({ count, ...pair }: Pair & { count: number }): Promise<Latencies[]> => {
    const lines = await linesOf(pair);
    const kib = "y".repeat(1_023).concat("\n");
    // The first requests open connections and warm the code.
    await inPairs("warm-up", 5, lines, (line) => patch(line, kib));
    for (const line of [lines.relay, lines.direct]) await upload(line, 1_024);
    const found = [
      await inPairs("append 1 KiB to the log", count, lines, (line) => patch(line, kib)),
      await inPairs("report that the job runs", count, lines, (line) => put(line, "running")),
      await inPairs("download a 1 KiB artifact", count, lines, download),
    ];
    await end(lines);
    return found;
  },
  /** A cache up and down, and a file of the same size written and read by hand; each read from the disk. In ms. */
  caches: async ({ jobId, bytes, cacheFiles, byHand, relayFirst }: CacheRound): Promise<CacheTimes> => {
    const line = heldLine(jobId);
    const both = async (relayed: () => Promise<void>, own: () => Promise<void>) => {
      if (relayFirst) return [await inTime(relayed), await inTime(own)];
      const ownMs = await inTime(own);
      return [await inTime(relayed), ownMs];
    };
    const [up = 0, written = 0] = await both(
      () => storeCache(line, bytes),
      () => writeByHand(byHand, bytes),
    );
    for (const file of [...globSync(`${cacheFiles}/*/project/*/*/*`), byHand]) await forget(file);
    const [down = 0, read = 0] = await both(
      () => fetchCache(line, bytes),
      () => readByHand(byHand),
    );
    return { up, written, down, read };
  },
  /** All of these jobs at once: an artifact up, a cache up and down. */
  traffic: async ({ jobIds, bytes }: { jobIds: readonly number[]; bytes: number }): Promise<void> => {
    const works = jobIds.flatMap((jobId) => {
      const line = heldLine(jobId);
      const caching = storeCache(line, bytes).then(() => fetchCache(line, bytes));
      return [caching, upload(line, bytes).then(() => undefined)];
    });
    await Promise.all(works);
  },
  /** One upload both ways. */
  uploads: async ({ bytes, relayFirst, ...pair }: Pair & { bytes: number; relayFirst: boolean }) => {
    const lines = await linesOf(pair);
    const tookMs = { relay: 0, direct: 0 };
    const order = relayFirst ? (["relay", "direct"] as const) : (["direct", "relay"] as const);
    for (const way of order) {
      const startedAt = performance.now();
      const { status, text } = await upload(lines[way], bytes);
      if (status !== 201) throw new Error(`upload: ${status} ${text}`);
      tookMs[way] = performance.now() - startedAt;
    }
    await end(lines);
    return tookMs;
  },
};
export type GuestsHandlers = typeof handlers;

const tell = serveParent<Held>(handlers, async () => {});
