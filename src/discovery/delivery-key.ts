import { createHash } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";

/** What GitLab sends is a UUID; a few printable characters more do no harm. */
const plainKey = /^[\x21-\x7e]{1,100}$/;

/**
 * By what a delivery is known again: `webhook-id` (GitLab 19.0), which equals `Idempotency-Key` (17.4); before these
 * `X-Gitlab-Event-UUID`, which all hooks of one event share, with what the hook is about; else what the body says. Undefined when
 * there is neither.
 */
export function deliveryKey(
  headers: IncomingHttpHeaders,
  body: Buffer | undefined,
  about: string,
): string | undefined {
  const own = boundedKey(firstValue(headers["webhook-id"]) ?? firstValue(headers["idempotency-key"]));
  if (own !== undefined) return own;
  const event = boundedKey(firstValue(headers["x-gitlab-event-uuid"]));
  if (event !== undefined) return `${event} ${about}`;
  return body === undefined ? undefined : digest(body);
}

function firstValue(value: string | string[] | undefined): string | undefined {
  const text = Array.isArray(value) ? value[0] : value;
  return text === "" ? undefined : text;
}

/** Two that differ stay different. */
function boundedKey(text: string | undefined): string | undefined {
  return text === undefined || plainKey.test(text) ? text : digest(text);
}

function digest(data: string | Buffer): string {
  return `sha256:${createHash("sha256").update(data).digest("hex")}`;
}
