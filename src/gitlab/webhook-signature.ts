/** Who sent a webhook: Standard Webhooks signatures (GitLab 19.0 and later) and GitLab's plain secret token. */
import {
  createHash,
  createHmac,
  createSecretKey,
  type Hmac,
  type KeyObject,
  randomBytes,
  timingSafeEqual,
} from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";
import { Secret } from "../base/secret.ts";

/** How old or how far ahead a delivery may be, as in the libraries of Standard Webhooks. */
const TOLERANCE_SECONDS = 300;
/** Each costs a comparison for each key; more than a rotation needs are not looked at. */
const MOST_SIGNATURES = 16;
const MOST_SIGNATURE_CHARACTERS = 4_096;
const DIGEST_BYTES = 32;

/** The same shape as what the public server asks for (`Screening` in server/public). */
type Screened =
  | { readonly kind: "proven" }
  | { readonly kind: "signed"; readonly proof: SignatureProof }
  | { readonly kind: "refused"; readonly message: string };

interface SignatureProof {
  update(chunk: Uint8Array): void;
  isValid(): boolean;
}

interface HookVerifierOptions {
  /** `whsec_…`; asked for with each request, since they may be replaced while we run. All are tried. */
  readonly signingKeys: () => readonly Secret[];
  /** Secret tokens; asked for with each request. All are tried. */
  readonly tokens: () => readonly Secret[];
  /** Epoch ms. */
  readonly now: () => number;
}

interface HookVerifier {
  screen(headers: IncomingHttpHeaders): Screened;
}

/**
 * A signature that is offered has to be right, whatever the token says; without a signing key nobody can tell, and the token
 * decides. Comparisons take the same time wherever the difference is: both sides are digests of one length, and every key and
 * token is tried.
 */
export function createHookVerifier({ signingKeys, tokens, now }: HookVerifierOptions): HookVerifier {
  const usable = createKeyring();
  return {
    screen(headers) {
      const keys = signingKeys();
      const offered = headers["webhook-signature"];
      if (keys.length === 0 || offered === undefined) return screenToken(headers, tokens(), keys.length > 0);
      return screenSignature(headers, offered, usable(keys), now());
    },
  };
}

function screenToken(headers: IncomingHttpHeaders, all: readonly Secret[], signable: boolean): Screened {
  // An empty token would be proven by an empty header.
  const tokens = all.filter((token) => token.reveal() !== "");
  const offered = headers["x-gitlab-token"];
  if (tokens.length === 0) {
    return refused(
      signable
        ? "it has no webhook-signature, and no secret token is configured"
        : "neither a signing token nor a secret token is configured",
    );
  }
  if (typeof offered !== "string") {
    return refused(`it has no ${signable ? "webhook-signature and no " : ""}X-Gitlab-Token`);
  }
  // Node gives the bytes of a header as latin1.
  const digest = sha256(Buffer.from(offered, "latin1"));
  const right = tokens.map((token) => timingSafeEqual(digest, sha256(Buffer.from(token.reveal(), "utf8"))));
  return right.includes(true) ? { kind: "proven" } : refused("its X-Gitlab-Token is wrong");
}

function screenSignature(
  headers: IncomingHttpHeaders,
  offered: string | readonly string[],
  keys: readonly KeyObject[],
  now: number,
): Screened {
  if (keys.length === 0) return refused("the configured signing token is not of the form whsec_…");
  const names = namesOf(headers);
  if (names === undefined) return refused("its webhook-id or webhook-timestamp is missing or malformed");
  const lateSeconds = Math.floor(now / 1_000) - names.timestamp;
  if (Math.abs(lateSeconds) > TOLERANCE_SECONDS) return refused(offTime(lateSeconds));
  const signatures = signaturesIn(offered);
  if (signatures.length === 0) return refused("its webhook-signature is malformed");
  return { kind: "signed", proof: proofOf(keys, names, signatures) };
}

/** The keys of those tokens that are of good form; the others might be empty ones, with which anybody can sign. */
function createKeyring(): (tokens: readonly Secret[]) => KeyObject[] {
  const known = new WeakMap<Secret, KeyObject | "malformed">();
  function keyOf(token: Secret): KeyObject | "malformed" {
    const key = known.get(token) ?? (signingKeyProblem(token.reveal()) ? "malformed" : signingKeyOf(token));
    known.set(token, key);
    return key;
  }
  return (tokens) => tokens.map(keyOf).filter((key) => key !== "malformed");
}

function namesOf(headers: IncomingHttpHeaders): DeliveryNames | undefined {
  const id = headers["webhook-id"];
  const timestamp = headers["webhook-timestamp"];
  if (typeof id !== "string" || !/^[\x21-\x7e]{1,256}$/.test(id)) return undefined;
  // The signature covers the digits as they were sent: no sign, no zeros in front.
  if (typeof timestamp !== "string" || !/^(0|[1-9]\d{0,11})$/.test(timestamp)) return undefined;
  return { id, timestamp: Number(timestamp) };
}

function offTime(lateSeconds: number): string {
  const by = `${Math.abs(lateSeconds)} s ${lateSeconds > 0 ? "old" : "ahead"}`;
  return `its webhook-timestamp is ${by}, more than ${TOLERANCE_SECONDS} s: check the clocks of this computer and of GitLab`;
}

/** A list with spaces between; what is not of version 1 is for others. */
function signaturesIn(offered: string | readonly string[]): Buffer[] {
  if (typeof offered !== "string" || offered.length > MOST_SIGNATURE_CHARACTERS) return [];
  return offered
    .split(" ")
    .filter((each) => /^v1,[A-Za-z0-9+/]{43}=$/.test(each))
    .slice(0, MOST_SIGNATURES)
    .map((each) => Buffer.from(each.slice(3), "base64"))
    .filter((signature) => signature.length === DIGEST_BYTES);
}

function proofOf(
  keys: readonly KeyObject[],
  names: DeliveryNames,
  signatures: readonly Buffer[],
): SignatureProof {
  const hmacs = keys.map((key) => startSignature(key, names));
  return {
    update(chunk) {
      for (const hmac of hmacs) hmac.update(chunk);
    },
    isValid() {
      const digests = hmacs.map((hmac) => hmac.digest());
      const right = digests.flatMap((digest) => signatures.map((each) => timingSafeEqual(digest, each)));
      return right.includes(true);
    },
  };
}

function sha256(bytes: Uint8Array): Buffer {
  return createHash("sha256").update(bytes).digest();
}

function refused(message: string): Screened {
  return { kind: "refused", message };
}

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
interface DeliveryNames {
  /** `webhook-id`. */
  readonly id: string;
  /** `webhook-timestamp`: seconds since the epoch. */
  readonly timestamp: number;
}

/** A signing token of good form, as it is used: to be kept, since making it costs more than the signature of a webhook. */
function signingKeyOf(token: Secret): KeyObject {
  return createSecretKey(token.reveal().slice(PREFIX.length), "base64");
}

/** The HMAC of a delivery, still without its body (Standard Webhooks 1.0). */
function startSignature(key: KeyObject, { id, timestamp }: DeliveryNames): Hmac {
  return createHmac("sha256", key).update(`${id}.${timestamp}.`);
}

/** The value of `webhook-signature` for a delivery, as GitLab makes it. The token must be of good form. */
export function signDelivery(
  token: Secret,
  delivery: DeliveryNames & { readonly body: string | Uint8Array },
): string {
  return `v1,${startSignature(signingKeyOf(token), delivery).update(delivery.body).digest("base64")}`;
}
