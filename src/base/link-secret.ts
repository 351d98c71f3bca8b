/** The secret of a machine on another host: made, kept as a hash, and compared in one place, whoever keeps it. */
import { createHash, timingSafeEqual } from "node:crypto";
import { Secret } from "./secret.ts";

const SECRET_BYTES = 32;

/** 64 hex digits. `random` gives that many bytes. */
export function newLinkSecret(random: (size: number) => Uint8Array): Secret {
  return new Secret(Buffer.from(random(SECRET_BYTES)).toString("hex"));
}

/** In hex: what is kept of a secret. */
export function linkHashOf(secret: string): string {
  return createHash("sha256").update(secret).digest("hex");
}

/**
 * Whether `given` is the secret of which `hash` is kept, in a time that does not depend on where a wrong one differs, nor on whether
 * there is a hash at all.
 */
export function isLinkSecret(given: string, hash: string | undefined): boolean {
  const [kept, offered] = [Buffer.from(hash ?? linkHashOf(""), "hex"), Buffer.from(linkHashOf(given), "hex")];
  return timingSafeEqual(kept, offered) && hash !== undefined;
}
