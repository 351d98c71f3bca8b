import type { IncomingHttpHeaders } from "node:http";
import type { Socket } from "node:net";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { describeError } from "../../base/errors.ts";
import type { SampledLog } from "../../base/log.ts";
import { MIB_BYTES } from "../../base/units.ts";
import type { AddressSet, Client } from "../network/client.ts";
import type { BodyBudget, KeptBody } from "./body-budget.ts";
import type { Connections } from "./connections.ts";
import { type BodyEnd, readBody, type TakeTurn } from "./read-body.ts";
import type { Refusal, Refuse, Tally } from "./refusal.ts";

/** GitLab's longest payload has 25 MB; an authentic one has to be read to its end. */
const MOST_BODY_BYTES = 32 * MIB_BYTES;
const TRY_AGAIN_S = 10;

export interface WebhookRouteDeps {
  readonly handler: WebhookHandler | undefined;
  readonly clientOf: (request: FastifyRequest) => Client;
  readonly allowed: () => AddressSet;
  readonly bodyLimitBytes: number;
  readonly bodies: BodyBudget;
  readonly takeTurn: TakeTurn;
  readonly connections: Connections;
  /** Something was wrong with the connection already, and has been logged. */
  readonly isSpoilt: (socket: Socket) => boolean;
  readonly refuse: Refuse;
  readonly tally: Tally;
  readonly sampled: SampledLog;
}

type Proven = Exclude<Screening, { kind: "refused" }>;

/**
 * What costs least is asked first: the address, then the headers, and only then the body, which is proved while it arrives and
 * kept as far as there is room. An authentic delivery is never refused for its size, its form or the load: GitLab would switch
 * the webhook off.
 */
export function registerWebhook(app: FastifyInstance, deps: WebhookRouteDeps): void {
  // All of it happens before the framework would look for a parser of the body.
  app.all("/webhook", { onRequest, handler: notReached });

  async function onRequest(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    await receive(request, reply, deps);
    return reply;
  }
}

function notReached(): never {
  throw new TypeError("a webhook was left without an answer");
}

async function receive(request: FastifyRequest, reply: FastifyReply, deps: WebhookRouteDeps): Promise<void> {
  const misplaced = refusalByPlace(request, deps);
  if (misplaced) return await deps.refuse(request, reply, misplaced);
  try {
    const screening = screen(request, deps);
    if (screening.kind === "refused") {
      const reason = "no valid token or signature";
      return await deps.refuse(request, reply, { reason, status: 401, message: screening.message });
    }
    return await receiveBody(request, reply, screening, deps);
  } catch (error) {
    apologize(request, reply, error, deps);
  }
}

function refusalByPlace(request: FastifyRequest, deps: WebhookRouteDeps): Refusal | undefined {
  const { address } = deps.clientOf(request);
  const allowed = deps.allowed();
  if (!allowed.isEmpty && (address === undefined || !allowed.has(address))) {
    const message = `${address ?? "an unknown address"} may not deliver webhooks here (http.allow)`;
    return { reason: "address not allowed", status: 403, message };
  }
  if (deps.handler === undefined) {
    const message = "this FireRunner takes no webhooks: its configuration has no “webhook”";
    return { reason: "no webhook configured", status: 404, message };
  }
  if (request.method === "GET" || request.method === "HEAD") {
    return {
      reason: "wrong method",
      status: 405,
      message: "this is where GitLab delivers webhooks, with POST",
    };
  }
  return undefined;
}

function screen({ raw }: FastifyRequest, { handler, connections }: WebhookRouteDeps): Screening {
  const screening = handlerOf(handler).screen(raw.headers);
  if (screening.kind === "proven") connections.prove(raw.socket);
  return screening;
}

async function receiveBody(
  request: FastifyRequest,
  reply: FastifyReply,
  screening: Proven,
  deps: WebhookRouteDeps,
): Promise<void> {
  const { raw } = request;
  const length = raw.headers["content-length"];
  const kept = deps.bodies.keep(deps.bodyLimitBytes, length === undefined ? undefined : Number(length));
  try {
    const proof = screening.kind === "signed" ? screening.proof : undefined;
    const end = await readBody(raw, {
      mostBytes: MOST_BODY_BYTES,
      ...(proof ? { takeTurn: deps.takeTurn } : {}),
      onChunk(chunk) {
        proof?.update(chunk);
        kept.add(chunk);
      },
    });
    if (end !== "complete") return await giveUp(request, reply, end, deps);
    if (proof && !proof.isValid()) return await deps.refuse(request, reply, wrongSignature);
    deps.connections.prove(raw.socket);
    return await take(request, reply, kept, deps);
  } finally {
    kept.release();
  }
}

const wrongSignature: Refusal = {
  reason: "wrong signature",
  status: 401,
  message:
    "webhook-signature does not fit the body: GitLab has another signing token than this FireRunner, or the body was changed on its way",
};

async function take(
  request: FastifyRequest,
  reply: FastifyReply,
  kept: KeptBody,
  { handler, tally }: WebhookRouteDeps,
): Promise<void> {
  const body = kept.take();
  const message = await handlerOf(handler).take({ headers: request.raw.headers, body });
  tally.accepted++;
  if (body === undefined) tally.withoutBody++;
  reply.code(200).send({ message });
}

async function giveUp(
  request: FastifyRequest,
  reply: FastifyReply,
  end: Exclude<BodyEnd, "complete">,
  deps: WebhookRouteDeps,
): Promise<void> {
  if (end === "too-long") {
    const message = `a body of more than ${MOST_BODY_BYTES / MIB_BYTES} MiB is not read to its end`;
    return await deps.refuse(request, reply, { reason: "too long", status: 413, message });
  }
  reply.hijack();
  if (deps.isSpoilt(request.raw.socket)) return;
  const { address = "unknown", key } = deps.clientOf(request);
  deps.tally.broken++;
  const why = end === "crumbs" ? "it came in thousands of tiny chunks" : "it broke off";
  deps.sampled.write(
    "warn",
    `${key} ${end}`,
    { client: address, why },
    "the body of a webhook request was not read",
  );
  request.raw.destroy();
}

/** Only our own failure gets here: the delivery was authentic, or could not be looked at. */
function apologize(
  request: FastifyRequest,
  reply: FastifyReply,
  error: unknown,
  { tally, sampled }: WebhookRouteDeps,
): void {
  tally.failed++;
  sampled.write(
    "warn",
    "failed",
    { url: request.url, why: describeError(error) },
    "a webhook could not be taken; GitLab is told 503",
  );
  reply
    .code(503)
    .header("retry-after", TRY_AGAIN_S)
    .send({ message: "the delivery could not be kept; FireRunner's log says why" });
}

function handlerOf(handler: WebhookHandler | undefined): WebhookHandler {
  if (handler === undefined) throw new TypeError("a webhook was let in without anybody to receive it");
  return handler;
}

/** What the headers of a webhook request prove, before its body is read. */
export type Screening =
  /** The secret token is right, and no signature was offered that would have to be right as well. */
  | { readonly kind: "proven" }
  /** A signature is offered that only the body can prove. */
  | { readonly kind: "signed"; readonly proof: BodyProof }
  /** `message` says in words what is missing or wrong; nothing secret is in it. */
  | { readonly kind: "refused"; readonly message: string };

/** A signature that is checked while the body arrives, so that no body has to be kept for it. */
interface BodyProof {
  update(chunk: Uint8Array): void;
  /** To be asked once, after the last chunk. */
  isValid(): boolean;
}

/** An authentic webhook request. */
interface HookRequest {
  readonly headers: IncomingHttpHeaders;
  /** Undefined when it was longer than what is read, or there was no room for it. */
  readonly body: Buffer | undefined;
}

/** Who receives webhooks behind the public server. */
export interface WebhookHandler {
  screen(headers: IncomingHttpHeaders): Screening;
  /**
   * Takes an authentic request; resolves once it is durable, with what to tell the sender in words. Rejects only when the store
   * fails and trying again has not helped: the one case in which GitLab is told 503.
   */
  take(request: HookRequest): Promise<string>;
}
