import type { IncomingHttpHeaders, IncomingMessage } from "node:http";
import { PassThrough, type Readable, type Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { Dispatcher } from "undici";
import { gitLabErrorFrom } from "../gitlab/errors.ts";
import { Refusal } from "./errors.ts";
import type { Exchange } from "./exchange.ts";
import { headersForGuest } from "./headers.ts";

/** The two ends that a handler joins: the guest's body, and a signal that ends the request when the guest is gone or stuck. */
export interface Passage {
  readonly body?: Readable;
  readonly signal: AbortSignal;
}

export type Send = (passage: Passage) => Promise<Dispatcher.ResponseData>;

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
