import type { IncomingMessage, ServerResponse } from "node:http";
import { readBounded, TooLongError } from "../base/read-bounded.ts";
import { Refusal } from "./errors.ts";
import type { Guest } from "./guest.ts";

/** More than any request of the runner's has. */
const MOST_DEPTH = 1_000;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/** One request of one guest, with what every handler needs of it. */
export interface Exchange {
  readonly guest: Guest;
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  /** Without the query. */
  readonly path: string;
  /** With its `?`, or empty. */
  readonly query: string;
  /** Counts bytes that are kept for this request until its end. Throws Refusal 503 when its machine, or all of them, hold too much. */
  hold(bytes: number): void;
  /** Aborts when nobody waits for the answer any more, or its time is up. */
  readonly signal: AbortSignal;
}

/** Reads a small body whole. Throws Refusal: 413 for a longer one, as soon as that is known; 503 when there is no room for it. */
export async function readBody({ request, hold }: Exchange, maxBytes: number): Promise<Buffer> {
  const tooLarge = () =>
    new Refusal(413, `the body is longer than ${maxBytes} bytes`, { rule: "body-too-large" });
  if (Number(request.headers["content-length"] ?? 0) > maxBytes) throw tooLarge();
  // Twice: its pieces, and what they are joined to.
  const count = (chunk: Uint8Array) => hold(2 * chunk.length);
  const { bytes, cut } = await readBounded(request.iterator({ destroyOnReturn: false }), maxBytes, count);
  if (cut !== undefined) throw cut instanceof TooLongError ? tooLarge() : cut;
  return bytes;
}

/** Reads a small JSON object. Throws Refusal 400, 413 or 503. */
export async function readJsonObject(exchange: Exchange, maxBytes: number): Promise<Record<string, unknown>> {
  const body = await readBody(exchange, maxBytes);
  const value = parseJson(body);
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    return value as Record<string, unknown>;
  }
  throw new Refusal(400, "400 Bad Request - the body is not a JSON object");
}

/** Whether more brackets are open at one time than anybody needs: a parser takes a hundred times as long for them as for other text. */
function isDeep(json: Buffer): boolean {
  let depth = 0;
  for (let at = 0; at < json.length && depth <= MOST_DEPTH; at++) {
    const byte = json[at];
    if (byte === QUOTE) at = endOfString(json, at);
    else if (byte === 0x5b || byte === 0x7b) depth += 1;
    else if (byte === 0x5d || byte === 0x7d) depth -= 1;
  }
  return depth > MOST_DEPTH;
}

/** Where the quote is that ends a string. */
function endOfString(json: Buffer, start: number): number {
  let at = start + 1;
  while (at < json.length && json[at] !== QUOTE) at += json[at] === BACKSLASH ? 2 : 1;
  return at;
}

function parseJson(body: Buffer): unknown {
  if (isDeep(body)) return undefined;
  try {
    return JSON.parse(body.toString("utf8"));
  } catch {
    return undefined;
  }
}

/** By which name the guest reaches the relay. Throws Refusal 400 when it says none that may stand in a URL. */
export function relayHostOf(request: IncomingMessage): string {
  const host = request.headers.host ?? "";
  if (!/^(?:[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?$/.test(host)) {
    throw new Refusal(400, "400 Bad Request - the Host header is missing or malformed");
  }
  return host;
}

/** Ends an exchange with a short body of our own or of GitLab's. */
export function reply(
  response: ServerResponse,
  status: number,
  headers: Readonly<Record<string, string | string[] | undefined>>,
  body = "",
): void {
  if (response.headersSent || response.destroyed) return;
  const present = Object.entries(headers).filter(([, value]) => value !== undefined);
  const hasBody = status !== 204 && status !== 304;
  response.writeHead(status, {
    ...Object.fromEntries(present),
    ...(hasBody ? { "content-length": Buffer.byteLength(body) } : {}),
  });
  response.end(hasBody ? body : undefined);
}
