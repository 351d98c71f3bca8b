import { createHmac, createSecretKey, type Hmac, type KeyObject, randomBytes } from "node:crypto";
import { Secret } from "../base/secret.ts";

const PREFIX = "whsec_";
/** GitLab takes keys of exactly this length. */
const KEY_BYTES = 32;

/** A new signing token for a webhook: `whsec_` and 32 random bytes in base64, the only form that GitLab takes. */
export function newSigningKey(): Secret {
  return new Secret(PREFIX + randomBytes(KEY_BYTES).toString("base64"));
}

/** What is wrong with the form of a signing token, in words that do not hold it; undefined when it is well. */
export function signingKeyProblem(text: string): string | undefined {
  if (!text.startsWith(PREFIX)) return `a signing token begins with ${PREFIX}`;
  const encoded = text.slice(PREFIX.length);
  const key = Buffer.from(encoded, "base64");
  // Node skips what is no base64; a key that does not come back the same was not meant so.
  if (key.toString("base64") !== encoded) return `what follows ${PREFIX} is not base64`;
  if (key.length !== KEY_BYTES) return `a signing token holds ${KEY_BYTES} bytes, not ${key.length}`;
  return undefined;
}

/** What names a delivery in the headers of a webhook request. */
export interface DeliveryNames {
  /** `webhook-id`. */
  readonly id: string;
  /** `webhook-timestamp`: seconds since the epoch. */
  readonly timestamp: number;
}

/** A signing token of good form, as it is used: to be kept, since making it costs more than the signature of a webhook. */
export function signingKeyOf(token: Secret): KeyObject {
  return createSecretKey(token.reveal().slice(PREFIX.length), "base64");
}

/** The HMAC of a delivery, still without its body (Standard Webhooks 1.0). */
export function startSignature(key: KeyObject, { id, timestamp }: DeliveryNames): Hmac {
  return createHmac("sha256", key).update(`${id}.${timestamp}.`);
}

/** The value of `webhook-signature` for a delivery, as GitLab makes it. The token must be of good form. */
export function signDelivery(
  token: Secret,
  delivery: DeliveryNames & { readonly body: string | Uint8Array },
): string {
  return `v1,${startSignature(signingKeyOf(token), delivery).update(delivery.body).digest("base64")}`;
}
