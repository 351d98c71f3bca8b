import { createHmac } from "node:crypto";

const PREFIX = "whsec_";
const KEY_BYTES = 32;

/** The key in `whsec_<base64 of 32 bytes>`; undefined for anything else. */
export function readSigningToken(text: string): Buffer | undefined {
  const encoded = text.startsWith(PREFIX) ? text.slice(PREFIX.length) : "";
  const key = Buffer.from(encoded, "base64");
  return key.length === KEY_BYTES && key.toString("base64") === encoded ? key : undefined;
}

/** The `webhook-signature` header of Standard Webhooks. `timestamp` is in seconds. */
export function sign(key: Buffer, id: string, timestamp: number, body: string): string {
  return `v1,${createHmac("sha256", key).update(`${id}.${timestamp}.${body}`).digest("base64")}`;
}
