/** One webhook: what it hears, when failures switch it off, and how a delivery is signed and sent. */
import { createHmac, randomUUID } from "node:crypto";
import { rootCertificates } from "node:tls";
import { Agent, request } from "undici";
import type { Group, Project } from "../model.ts";
import { isWithin } from "../projects.ts";

const MINUTE_MS = 60_000;
const DAY_MS = 24 * 60 * MINUTE_MS;
/** From the next failure on, a hook is off for a while. */
const TOLERATED_FAILURES = 3;
/** From the next failure on, it is off until a test succeeds. */
const LAST_FAILURES = 39;

export type HookEvent = "Job Hook" | "Pipeline Hook" | "Push Hook";

export interface Hook {
  readonly id: number;
  /** A group's hook hears of everything below the group. */
  readonly home: { readonly project: Project } | { readonly group: Group };
  readonly createdAt: number;
  url: string;
  name: string | undefined;
  description: string | undefined;
  /** Sent as it is, in `X-Gitlab-Token`. */
  token: string | undefined;
  /** The 32 bytes of `whsec_…`. */
  signingKey: Buffer | undefined;
  jobEvents: boolean;
  pipelineEvents: boolean;
  pushEvents: boolean;
  sslVerification: boolean;
  /** In a row. */
  failures: number;
  /** Epoch ms. */
  disabledUntil: number | undefined;
}

export function hears(hook: Hook, project: Project, event: HookEvent): boolean {
  const isBelow =
    "project" in hook.home ? hook.home.project === project : isWithin(project.path, hook.home.group.path);
  return isBelow && wants(hook, event);
}

function wants(hook: Hook, event: HookEvent): boolean {
  if (event === "Job Hook") return hook.jobEvents;
  return event === "Pipeline Hook" ? hook.pipelineEvents : hook.pushEvents;
}

export type AlertStatus = "executable" | "temporarily_disabled" | "disabled";

export function alertStatus(hook: Hook, now: number, { autoDisable }: HookBehaviour): AlertStatus {
  if (!autoDisable) return "executable";
  if (hook.failures > LAST_FAILURES) return "disabled";
  const isOff = hook.failures > TOLERATED_FAILURES && (hook.disabledUntil ?? 0) >= now;
  return isOff ? "temporarily_disabled" : "executable";
}

/** A success, also that of a test, forgets all failures before it. */
export function noteSuccess(hook: Hook): void {
  hook.failures = 0;
  hook.disabledUntil = undefined;
}

/** The fourth failure in a row switches the hook off for a minute, each further one for twice as long, at most a day. */
export function noteFailure(hook: Hook, now: number, behaviour: HookBehaviour): void {
  // What was under way when the hook was switched off does not count.
  if (!behaviour.autoDisable || alertStatus(hook, now, behaviour) !== "executable") return;
  hook.failures++;
  const beyond = hook.failures - TOLERATED_FAILURES - 1;
  if (beyond >= 0) hook.disabledUntil = now + Math.min(DAY_MS, MINUTE_MS * 2 ** beyond);
}

/** How GitLab treats hooks. May be changed while the stand-in runs. */
export interface HookBehaviour {
  /** `19.2.0`. Before 19.0 there are no signatures, and dates are as Ruby prints them. */
  version: string;
  /** How long a receiver may take. */
  timeoutMs: number;
  /** Hooks that fail are switched off, as on GitLab.com. An own GitLab does that only where it is turned on. */
  autoDisable: boolean;
  /** Group hooks are there from the Premium plan on. */
  groupHooks: boolean;
  /** Whether receivers may be in the local network, as an administrator allows. */
  localReceivers: boolean;
  /** Certificates (PEM) of the authority that GitLab trusts beside the usual ones. */
  ca: string | undefined;
}

export const gitlabHookBehaviour: HookBehaviour = {
  version: "19.2.0",
  timeoutMs: 10_000,
  autoDisable: true,
  groupHooks: true,
  localReceivers: true,
  ca: undefined,
};

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
