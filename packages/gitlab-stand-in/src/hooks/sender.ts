import { createHmac, randomUUID } from "node:crypto";
import { rootCertificates } from "node:tls";
import { Agent, request } from "undici";
import type { Hook, HookBehaviour, HookEvent } from "./hook.ts";

const STORED_BODY_BYTES = 8 * 1024;

interface Sending {
  readonly hook: Hook;
  readonly event: HookEvent;
  readonly body: string;
  /** Stays the same when it is sent again. */
  readonly idempotencyKey: string;
  /** The same for all hooks that hear of one event. */
  readonly eventUuid: string;
  /** Unix seconds. */
  readonly timestamp: number;
}

/** What came back: a status with what GitLab keeps of the body, or why there is none. */
export type Receipt =
  | { readonly statusCode: number; readonly text: string }
  | { readonly statusCode: undefined; readonly text: string };

interface HookSender {
  send(sending: Sending, behaviour: HookBehaviour, serverUrl: string): Promise<Receipt>;
  /** Ends what is under way. */
  close(): Promise<void>;
}

/** One request to a receiver: a connection of its own, no redirect followed, no second try. */
export function createHookSender(): HookSender {
  const agents = new Map<string, Agent>();

  function agentFor({ sslVerification }: Hook, { ca }: HookBehaviour): Agent {
    const key = `${sslVerification} ${ca ?? ""}`;
    const known = agents.get(key);
    if (known) return known;
    const trust = ca === undefined ? {} : { ca: [...rootCertificates, ca] };
    const agent = new Agent({ pipelining: 0, connect: { rejectUnauthorized: sslVerification, ...trust } });
    agents.set(key, agent);
    return agent;
  }

  return {
    async send(sending, behaviour, serverUrl) {
      try {
        const response = await request(sending.hook.url, {
          method: "POST",
          headers: headersOf(sending, behaviour, serverUrl),
          body: sending.body,
          dispatcher: agentFor(sending.hook, behaviour),
          signal: AbortSignal.timeout(behaviour.timeoutMs),
        });
        return { statusCode: response.statusCode, text: await firstBytes(response.body) };
      } catch (error) {
        return { statusCode: undefined, text: error instanceof Error ? error.message : String(error) };
      }
    },
    async close() {
      await Promise.all([...agents.values()].map((agent) => agent.destroy()));
    },
  };
}

async function firstBytes(body: AsyncIterable<Buffer>): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of body) {
    chunks.push(chunk);
    bytes += chunk.length;
    if (bytes >= STORED_BODY_BYTES) break;
  }
  return Buffer.concat(chunks).subarray(0, STORED_BODY_BYTES).toString("utf8");
}

/** True from GitLab 19.0 on: deliveries carry the headers of Standard Webhooks, hooks may have signing tokens. */
export function isSigning({ version }: HookBehaviour): boolean {
  return Number(version.split(".")[0]) >= 19;
}

function headersOf(sending: Sending, behaviour: HookBehaviour, serverUrl: string): Record<string, string> {
  const { hook, idempotencyKey, timestamp } = sending;
  const headers: Record<string, string> = {
    "Content-Type": "application/json",
    "User-Agent": `GitLab/${behaviour.version}`,
    "Idempotency-Key": idempotencyKey,
    "X-Gitlab-Event": sending.event,
    // New for each delivery, whatever its name says.
    "X-Gitlab-Webhook-UUID": randomUUID(),
    "X-Gitlab-Instance": serverUrl,
    "X-Gitlab-Event-UUID": sending.eventUuid,
  };
  if (hook.token !== undefined) headers["X-Gitlab-Token"] = hook.token;
  if (!isSigning(behaviour)) return headers;
  headers["webhook-id"] = idempotencyKey;
  headers["webhook-timestamp"] = String(timestamp);
  if (hook.signingKey)
    headers["webhook-signature"] = sign(hook.signingKey, idempotencyKey, timestamp, sending.body);
  return headers;
}

const PREFIX = "whsec_";
const KEY_BYTES = 32;

/** The key in `whsec_<base64 of 32 bytes>`; undefined for anything else. */
export function readSigningToken(text: string): Buffer | undefined {
  const encoded = text.startsWith(PREFIX) ? text.slice(PREFIX.length) : "";
  const key = Buffer.from(encoded, "base64");
  return key.length === KEY_BYTES && key.toString("base64") === encoded ? key : undefined;
}

/** The `webhook-signature` header of Standard Webhooks. `timestamp` is in seconds. */
function sign(key: Buffer, id: string, timestamp: number, body: string): string {
  return `v1,${createHmac("sha256", key).update(`${id}.${timestamp}.${body}`).digest("base64")}`;
}
