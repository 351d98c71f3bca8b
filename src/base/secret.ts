/** The secret of a machine on another host: made, kept as a hash, and compared in one place, whoever keeps it. */

import { createHash, timingSafeEqual } from "node:crypto";
import { inspect } from "node:util";

const REDACTED = "[secret]";

/**
 * A value that must not be printed. Logging, JSON and string interpolation all give `[secret]`; only `reveal()` gives the
 * text, so every place that uses a secret can be found by that one word.
 */
export class Secret {
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
  }

  reveal(): string {
    return this.#text;
  }

  toString(): string {
    return REDACTED;
  }

  toJSON(): string {
    return REDACTED;
  }

  [inspect.custom](): string {
    return REDACTED;
  }
}

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

/** Whether `given` is the secret's text, in a time that does not depend on where a wrong one differs. */
export function isSecret(given: string, secret: Secret): boolean {
  return isLinkSecret(given, linkHashOf(secret.reveal()));
}
