import type { Secret } from "../../base/secret.ts";

export interface SampleDelivery {
  /** `Job Hook` and the like. */
  readonly event: string;
  /** What tells it from others: the same again is a duplicate. */
  readonly id: string;
  readonly body: string;
  /** Epoch ms. */
  readonly now: number;
}

export interface Proof {
  readonly signingKey: Secret | undefined;
  readonly token: Secret | undefined;
  readonly sign: (
    key: Secret,
    delivery: { readonly id: string; readonly timestamp: number; readonly body: string },
  ) => string;
}

/** The headers that GitLab 19.0 sends, signed and with the secret token as far as they are given. */
export function deliveryHeaders(
  { event, id, body, now }: SampleDelivery,
  { signingKey, token, sign }: Proof,
): Record<string, string> {
  const timestamp = Math.floor(now / 1_000);
  return {
    "content-type": "application/json",
    "user-agent": "firerunner webhook send",
    "x-gitlab-event": event,
    "x-gitlab-webhook-uuid": id,
    "x-gitlab-event-uuid": id,
    "idempotency-key": id,
    "webhook-id": id,
    "webhook-timestamp": String(timestamp),
    ...(token ? { "x-gitlab-token": token.reveal() } : {}),
    ...(signingKey ? { "webhook-signature": sign(signingKey, { id, timestamp, body }) } : {}),
  };
}
