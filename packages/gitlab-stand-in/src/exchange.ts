import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { Clock } from "../../../src/base/clock.ts";
import { listenOn } from "../../../src/base/listen.ts";
import { readWhole } from "../../../src/base/read-bounded.ts";
import type { Fault } from "./faults.ts";

/** One request on its way through a handler. */
export interface Exchange {
  readonly request: IncomingMessage;
  readonly url: URL;
  readonly jobId: number | undefined;
  /** What the groups of the route's path matched, decoded. */
  readonly params: readonly string[];
  /** When it came in (epoch ms). */
  readonly at: number;
  /** Aborts when the client is gone. */
  readonly signal: AbortSignal;
}

export interface Reply {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Readable;
  /** Called once the answer has been sent whole. */
  readonly onSent?: () => void;
}

export function json(status: number, value: unknown, headers: Record<string, string> = {}): Reply {
  return {
    status,
    headers: { "Content-Type": "application/json", ...headers },
    body: JSON.stringify(value),
  };
}

/** GitLab's usual error body: `{"message":"403 Forbidden - …"}`. */
export function refuse(status: number, message: string, headers: Record<string, string> = {}): Reply {
  return json(status, { message }, headers);
}

/** Reads a whole body. Throws TooLongError as soon as it passes `maxBytes`; the connection can still carry the answer. */
export async function readBody(request: IncomingMessage, maxBytes: number): Promise<Buffer> {
  return await readWhole(request.iterator({ destroyOnReturn: false }), maxBytes);
}

/** Sends `reply`, spoiled by `fault` where one is given. Resolves when the answer is out or cut. */
export async function send(
  response: ServerResponse,
  reply: Reply,
  fault: Fault | undefined,
  clock: Clock,
): Promise<void> {
  if (fault?.kind === "lose-answer") {
    if (typeof reply.body === "object") reply.body.destroy();
    response.destroy();
    return;
  }
  response.writeHead(reply.status, { ...reply.headers, ...lengthOf(reply) });
  if (fault?.kind === "cut-body") return await cutBody(response, reply.body ?? "");
  if (typeof reply.body === "object") await pipeline(reply.body, response);
  else await sendText(response, reply.body ?? "", fault, clock);
  reply.onSent?.();
  // What nobody wanted to read is dropped, so that a client that is still sending gets to read the answer.
  response.req.resume();
}

function lengthOf(reply: Reply): Record<string, string> {
  if (typeof reply.body === "object" || reply.status === 204) return {};
  return { "Content-Length": String(Buffer.byteLength(reply.body ?? "")) };
}

async function sendText(
  response: ServerResponse,
  text: string,
  fault: Fault | undefined,
  clock: Clock,
): Promise<void> {
  const bytes = Buffer.from(text);
  if (fault?.kind === "slow-body") {
    const pieceBytes = Math.max(1, Math.ceil(bytes.length / 10));
    for (let start = 0; start < bytes.length; start += pieceBytes) {
      await clock.sleep(fault.ms / 10);
      response.write(bytes.subarray(start, start + pieceBytes));
    }
    return await finish(response);
  }
  await finish(response, bytes);
}

async function finish(response: ServerResponse, last?: Buffer): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    response.once("close", () => {
      if (response.writableFinished) resolve();
      else reject(new Error("the client went away before the answer was sent"));
    });
    response.once("finish", resolve);
    response.end(last);
  });
}

async function cutBody(response: ServerResponse, body: string | Readable): Promise<void> {
  if (typeof body === "object") {
    for await (const chunk of body) {
      response.write((chunk as Buffer).subarray(0, Math.ceil(chunk.length / 2)));
      break;
    }
  } else {
    const bytes = Buffer.from(body);
    response.write(bytes.subarray(0, Math.ceil(bytes.length / 2)));
  }
  // Lets the half reach the wire before the connection goes.
  await new Promise((resolve) => setTimeout(resolve, 20));
  response.destroy();
}

export function parseObject(body: Buffer): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(body.toString("utf8"));
    return typeof value === "object" && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}

/** Listens on loopback and returns the port. */
export async function listen(server: Server, port: number): Promise<number> {
  await listenOn(server, { port, host: "127.0.0.1" });
  return (server.address() as AddressInfo).port;
}

/** Stops listening and ends every connection. */
export async function shutDown(server: Server): Promise<void> {
  if (!server.listening) return;
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeAllConnections();
  await closed;
}
