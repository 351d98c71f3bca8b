import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from "node:http";
import { PassThrough, type Readable, type Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { Dispatcher } from "undici";
import { readBounded, TooLongError } from "../../base/read-bounded.ts";
import { gitLabErrorFrom } from "../../gitlab/errors.ts";
import { endToEndHeaders } from "../../gitlab/http.ts";
import { Refusal } from "../errors.ts";
import type { Guest } from "./guest.ts";
import { routeRules, type Served } from "./routes.ts";

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

/** What the relay reads itself. They end at the relay, but for the length of a body. */
const ownHeaders = ["connection", "content-length", "expect", "host", "transfer-encoding"];

/** What nobody may tell another server in somebody else's name: where a request comes from, what it really asks for, or that it were checked. */
const forgeable =
  /^(?:forwarded|via|x-forwarded-.*|x-real-ip|x-client-ip|x-cluster-client-ip|true-client-ip|cf-connecting-ip|x-http-method.*|x-method-override|x-original-.*|x-rewrite-url|x-sendfile.*|x-accel-.*|gitlab-.*|x-gitlab-.*)$/;

/**
 * Leaves of a request only the headers and the parts of the query that its route may have, so that nothing behind it sees another.
 * What is left out is forgotten at once: a request that waits must not keep it. Returns the query as it is now, with its `?`, or empty.
 */
export function keepAllowed(request: IncomingMessage, served: Served, query: string): string {
  const rule = routeRules[served];
  request.headers = allowedHeaders(request.headers, rule.headers);
  request.rawHeaders = [];
  return rule.query === "others" ? query : allowedQuery(query, rule.query);
}

function allowedHeaders(headers: IncomingHttpHeaders, allowed: readonly string[] | "others") {
  const isAllowed = (name: string) =>
    ownHeaders.includes(name) || (allowed === "others" ? !isForgeable(name) : allowed.includes(name));
  return Object.fromEntries(Object.entries(headers).filter(([name]) => isAllowed(name)));
}

/** Servers that hand headers on as variables take `_` for `-`: a name that only differs in that is the same name. */
function isForgeable(name: string): boolean {
  return forgeable.test(name.replaceAll(/[^a-z0-9]/g, "-"));
}

/** Names count as they are written: one in another spelling is another name, whatever it decodes to. */
function allowedQuery(query: string, allowed: readonly string[]): string {
  const parts = query
    .slice(1)
    .split("&")
    .filter((part) => allowed.includes(part.split("=", 1)[0] ?? ""));
  return parts.length > 0 ? `?${parts.join("&")}` : "";
}

/** A guest's headers as they go on to another server; `drop` (lower case) names more to leave out. */
export function headersFromGuest(
  headers: IncomingHttpHeaders,
  drop: readonly string[] = [],
): IncomingHttpHeaders {
  return Object.fromEntries(
    Object.entries(endToEndHeaders(headers)).filter(
      ([name]) => name !== "host" && name !== "expect" && !drop.includes(name),
    ),
  );
}

/** Words of GitLab's to whoever speaks to it directly. The relay is not GitLab's host, and its guests are not GitLab's users. */
const notForGuests = ["alt-svc", "nel", "report-to", "set-cookie", "strict-transport-security"];

/** The headers of a server's answer as a guest gets them. */
export function headersForGuest(headers: IncomingHttpHeaders): IncomingHttpHeaders {
  return Object.fromEntries(
    Object.entries(endToEndHeaders(headers)).filter(([name]) => !notForGuests.includes(name)),
  );
}

/** The two ends that a handler joins: the guest's body, and a signal that ends the request when the guest is gone or stuck. */
export interface Passage {
  readonly body?: Readable;
  readonly signal: AbortSignal;
}

type Send = (passage: Passage) => Promise<Dispatcher.ResponseData>;

/**
 * Sends a request on while its body is still arriving, and hands the answer to `use`. Bodies are never held: each side waits for the
 * other. Ends when either side is gone, or when nothing moves for `idleTimeoutMs`. Throws Refusal 502 when there is no answer.
 */
export async function passThrough(
  exchange: Exchange,
  idleTimeoutMs: number,
  send: Send,
  use: (answer: Dispatcher.ResponseData) => Promise<void>,
): Promise<void> {
  const { request, response } = exchange;
  const controller = new AbortController();
  const guestIsGone = () => controller.abort(new Error("the guest closed the connection"));
  if (response.destroyed) guestIsGone();
  response.once("close", guestIsGone);
  const stopWatching = watchProgress(exchange, idleTimeoutMs, () =>
    controller.abort(new Error("nothing moved for too long")),
  );
  const body = valvedBody(request);
  let answer: Dispatcher.ResponseData | undefined;
  try {
    answer = await send({ ...(body ? { body } : {}), signal: controller.signal }).catch((cause: unknown) => {
      throw cause instanceof Refusal ? cause : noAnswer(cause);
    });
    await use(answer);
  } finally {
    stopWatching();
    response.off("close", guestIsGone);
    if (body) {
      request.unpipe(body);
      body.destroy();
    }
    discard(answer?.body);
  }
}

/** Lets go of what is left of an answer. */
export function discard(body: Readable | undefined): void {
  if (body === undefined || body.readableEnded || body.destroyed) return;
  body.on("error", () => {});
  body.destroy();
}

/** Streams an answer to the guest, through `change` if that is given. A break on either side breaks the other: a cut body must not look whole. */
export async function streamAnswer(
  { response }: Exchange,
  { statusCode, body }: Dispatcher.ResponseData,
  headers: IncomingHttpHeaders,
  change?: Transform,
): Promise<void> {
  response.writeHead(statusCode, headersForGuest(headers));
  await (change ? pipeline(body, change, response) : pipeline(body, response)).catch(() => {});
}

function noAnswer(cause: unknown): Refusal {
  return new Refusal(502, gitLabErrorFrom(cause, "passing on a request").message, { cause });
}

/**
 * The guest's body behind a valve of its own: the HTTP client destroys what it was given when an answer comes early, and that must not
 * take the guest's connection with it before the guest has that answer.
 */
function valvedBody(request: IncomingMessage): PassThrough | undefined {
  const { "content-length": length, "transfer-encoding": encoding } = request.headers;
  if (encoding === undefined && Number(length ?? 0) === 0) return undefined;
  const valve = new PassThrough();
  valve.on("error", () => {});
  request.once("close", () => {
    if (!request.complete) valve.destroy(new Error("the guest's body was cut"));
  });
  request.pipe(valve);
  return valve;
}

function watchProgress({ request }: Exchange, idleTimeoutMs: number, onStall: () => void): () => void {
  const { socket } = request;
  let moved = socket.bytesRead + socket.bytesWritten;
  const timer = setInterval(() => {
    const now = socket.bytesRead + socket.bytesWritten;
    if (now === moved) onStall();
    moved = now;
  }, idleTimeoutMs);
  timer.unref();
  return () => clearInterval(timer);
}
