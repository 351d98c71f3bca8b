import type { FastifyReply, FastifyRequest } from "fastify";
import type { Clock } from "../../base/clock.ts";
import { startDeadline } from "../../base/deadline.ts";
import type { SampledLog } from "../../base/log.ts";
import type { KeyedRateLimit } from "../../base/token-bucket.ts";
import { MIB_BYTES } from "../../base/units.ts";
import type { Client } from "./client.ts";
import type { RefusalReason, Tally } from "./counts.ts";
import { readBody } from "./read-body.ts";

/** What is read of a refused body, so that its sender gets to read the answer: one that still writes would miss it. */
const DRAINED_BYTES = MIB_BYTES;
const DRAINED_MS = 1_000;

export interface Refusal {
  readonly reason: RefusalReason;
  readonly status: number;
  /** For the sender and for the log; nothing secret. */
  readonly message: string;
}

export type Refuse = (request: FastifyRequest, reply: FastifyReply, refusal: Refusal) => Promise<void>;

export interface RefuseDeps {
  readonly clientOf: (request: FastifyRequest) => Client;
  readonly limit: KeyedRateLimit;
  readonly tally: Tally;
  readonly sampled: SampledLog;
  readonly clock: Clock;
}

/**
 * Answers a request that has proved nothing, and closes its connection. A client that sends too many is told 429, without
 * anything being read or explained.
 */
export function createRefuse({ clientOf, limit, tally, sampled, clock }: RefuseDeps): Refuse {
  return async (request, reply, refusal) => {
    const client = clientOf(request);
    const waitS = limit.take(client.key);
    const { reason, status, message } = waitS > 0 ? tooMany(waitS) : refusal;
    tally.refused[reason] = (tally.refused[reason] ?? 0) + 1;
    sampled.write(
      "warn",
      `${client.key} ${reason}`,
      { client: client.address ?? "unknown", status, why: message },
      "a request at the door was refused",
    );
    if (waitS > 0) reply.header("retry-after", waitS);
    else await drain(clock, request);
    reply.code(status).header("connection", "close").send({ message });
  };
}

function tooMany(waitS: number): Refusal {
  const message = `too many requests without a valid token or signature; the next is looked at in ${waitS} s`;
  return { reason: "too many", status: 429, message };
}

async function drain(clock: Clock, { raw }: FastifyRequest): Promise<void> {
  const hasBody = "transfer-encoding" in raw.headers || Number(raw.headers["content-length"] ?? 0) > 0;
  if (!hasBody || Number(raw.headers["content-length"] ?? 0) > DRAINED_BYTES) return;
  const patience = startDeadline(clock, DRAINED_MS);
  await readBody(raw, { mostBytes: DRAINED_BYTES, signal: patience.signal });
  patience.clear();
}
