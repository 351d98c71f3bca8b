/**
 * Whether a release's list of digests is signed by the one key that is trusted for it. The check is gpgv's; whose key it was is
 * compared here, with a fingerprint that comes with this program, so that it does not matter who served the key. The second half
 * knows just enough of OpenPGP to take that key out of a file that may hold several; whether it is sound, and what it has signed, is
 * gpgv's to say.
 */

import { createHash } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../base/clock.ts";
import { describeError } from "../base/errors.ts";
import { ProcessError, run } from "../base/process.ts";
import { requireTools } from "./build-directory.ts";
import { ImageError } from "./errors.ts";

interface SignedList {
  /** How people find them: an address, or a path. */
  readonly names: { readonly list: string; readonly key: string };
  readonly list: Uint8Array;
  /** Detached, as text or binary. */
  readonly signature: Uint8Array;
  /** Public keys, as text or binary; of them only the trusted one counts. */
  readonly key: Uint8Array;
  /** Of the trusted primary key: 40 hex digits. */
  readonly fingerprint: string;
  readonly signal?: AbortSignal | undefined;
}

/** SHA-256, 384, 512 and 224, by their numbers in OpenPGP: what is signed with less proves little. */
const GOOD_HASHES: ReadonlySet<string> = new Set(["8", "9", "10", "11"]);
const MOST_STATUS_LINES = 200;

/** Throws `image_signature_wrong`, `image_key_expired`, `image_key_wrong` or `image_tools_missing`. */
export async function requireSignature(signed: SignedList): Promise<void> {
  const keys = trustedKeysIn(signed);
  await requireTools("checking the signature of the official runner", { gpgv: "gpgv" });
  let verdict: SignatureResult = { kind: "none" };
  for (const key of keys) {
    // A file may hold an old copy of the key and one that has been prolonged: the first that is good is good enough.
    verdict = evaluateStatus(await askGpgv(signed, key), signed.fingerprint);
    if (verdict.kind === "good") return;
  }
  throw refusal(verdict, signed);
}

function trustedKeysIn({ key, fingerprint, names }: SignedList): Uint8Array[] {
  const hint = `the key to have is ${fingerprint}: name a file that holds it with --runner-key FILE or images.runnerKeyFile`;
  let found: ReturnType<typeof publicKeysIn>;
  try {
    found = publicKeysIn(key);
  } catch (cause) {
    throw new ImageError(
      "image_key_wrong",
      `${names.key} is no file of public keys: ${describeError(cause)}`,
      { cause, hint },
    );
  }
  const trusted = found.filter((each) => each.fingerprint === fingerprint);
  if (trusted.length > 0) return trusted.map(({ bytes }) => bytes);
  const others = found.map((each) => each.fingerprint ?? "one of an unknown version").join(", ") || "none";
  throw new ImageError(
    "image_key_wrong",
    `${names.key} does not hold the key that signs GitLab's runner; it holds ${others}`,
    { hint },
  );
}

/** The status lines of gpgv, which gets one keyring, and nothing of the user's own. */
async function askGpgv({ list, signature, signal }: SignedList, key: Uint8Array): Promise<string[]> {
  const room = await mkdtemp(join(tmpdir(), "firerunner-signature-"));
  const at = (name: string) => join(room, name);
  const lines: string[] = [];
  try {
    await writeFile(at("key.gpg"), key);
    await writeFile(at("list"), list);
    await writeFile(at("list.sig"), signature);
    const args = [
      "--homedir",
      room,
      "--status-fd",
      "2",
      "--keyring",
      at("key.gpg"),
      at("list.sig"),
      at("list"),
    ];
    await run("gpgv", args, {
      env: { PATH: "/usr/local/bin:/usr/bin:/bin", LC_ALL: "C" },
      onStderrLine: (line) => {
        if (line.startsWith("[GNUPG:] ") && lines.length < MOST_STATUS_LINES) lines.push(line.slice(9));
      },
      ...(signal ? { signal } : {}),
    });
  } catch (error) {
    signal?.throwIfAborted();
    // Its status lines say more than its exit status, which is 0 for the signature of an expired key, too.
    if (!(error instanceof ProcessError) || error.exitCode === null) throw error;
  } finally {
    await rm(room, { recursive: true, force: true });
  }
  return lines;
}

type SignatureResult =
  | { readonly kind: "good" }
  /** Made with the right key, for other bytes than these. */
  | { readonly kind: "bad" }
  /** Made with another key, of this id. */
  | { readonly kind: "other-key"; readonly keyId: string }
  /** Good, but this copy of the key has run out; when, in epoch seconds, where gpgv tells. */
  | { readonly kind: "expired-key"; readonly atS: number | undefined }
  | { readonly kind: "expired-signature" }
  | { readonly kind: "revoked-key" }
  | { readonly kind: "weak"; readonly hash: string }
  /** There is no signature, or none that gpgv understands. */
  | { readonly kind: "none" };

/** What status lines of gpgv (doc/DETAILS of GnuPG) mean for signatures of which one must be good, and none bad. */
export function evaluateStatus(lines: readonly string[], fingerprint: string): SignatureResult {
  const words = lines.map((line) => line.split(" "));
  const first = (keyword: string) => words.find(([word]) => word === keyword);
  if (first("BADSIG")) return { kind: "bad" };
  if (first("REVKEYSIG")) return { kind: "revoked-key" };
  // VALIDSIG: fingerprint, three times, version, reserved, algorithm, hash, class, primary key's fingerprint.
  const valid = words.filter(([word]) => word === "VALIDSIG");
  const ours = valid.find((line) => line[10]?.toUpperCase() === fingerprint.toUpperCase());
  if (!ours) {
    const other = first("NO_PUBKEY")?.[1] ?? valid[0]?.[10];
    return other === undefined ? { kind: "none" } : { kind: "other-key", keyId: other };
  }
  const hash = ours[8] ?? "";
  if (!GOOD_HASHES.has(hash)) return { kind: "weak", hash };
  if (first("EXPSIG")) return { kind: "expired-signature" };
  if (first("EXPKEYSIG")) return { kind: "expired-key", atS: Number(first("KEYEXPIRED")?.[1]) || undefined };
  return first("GOODSIG") ? { kind: "good" } : { kind: "none" };
}

function refusal(verdict: SignatureResult, { names, fingerprint }: SignedList): ImageError {
  const distrust =
    "distrust where it came from; try without images.runnerMirror, or give a program you trust with --runner PATH";
  const wrong = (words: string) =>
    new ImageError("image_signature_wrong", `${names.list} ${words}`, { hint: distrust });
  switch (verdict.kind) {
    case "bad":
      return wrong("or its signature has been changed since it was signed");
    case "other-key":
      return wrong(`is signed by another key (${printable(verdict.keyId)}), not by ${fingerprint}`);
    case "revoked-key":
      return wrong(`is signed by a key that its owner has revoked (${fingerprint})`);
    case "weak":
      return wrong(
        `is signed over a digest that proves little (algorithm ${printable(verdict.hash)} of OpenPGP)`,
      );
    case "expired-signature":
      return wrong("has a signature that was good for some time only, which is over");
    case "expired-key":
      return expired(verdict.atS, names.key, fingerprint);
    default:
      return wrong("has no signature that can be checked");
  }
}

function expired(atS: number | undefined, key: string, fingerprint: string): ImageError {
  const when = atS === undefined ? "" : ` on ${new Date(atS * 1000).toISOString().slice(0, 10)}`;
  return new ImageError(
    "image_key_expired",
    `the signature is good, but the copy of GitLab's key in ${key} ran out${when} (this computer's clock says ${new Date(systemClock.now()).toISOString().slice(0, 10)})`,
    {
      hint:
        `GitLab prolongs this key from time to time: get a newer copy of ${fingerprint} and name it with --runner-key FILE or ` +
        "images.runnerKeyFile; docs/images.md says where from. Or give a program you trust with --runner PATH",
    },
  );
}

function printable(text: string): string {
  return text.replace(/[^\x21-\x7e]/g, "").slice(0, 64);
}

const PUBLIC_KEY = 6;
const SUBKEY = 14;
/** What follows a public key and belongs to it: signatures, user ids, subkeys and attributes, trust and padding. */
const OF_A_KEY: ReadonlySet<number> = new Set([2, 10, 12, 13, SUBKEY, 17, 21]);
const MOST_PACKETS = 10_000;

interface PublicKey {
  /** 40 hex digits in upper case; undefined for a key of a version that is not used here. */
  readonly fingerprint: string | undefined;
  /** The key with all that belongs to it, as a keyring of its own. */
  readonly bytes: Uint8Array;
}

/** The public keys of a file, armored or binary. Throws for what is no such file. */
function publicKeysIn(file: Uint8Array): PublicKey[] {
  const keys: { fingerprint: string | undefined; parts: Uint8Array[] }[] = [];
  for (const { tag, body, bytes } of packetsIn(binaryOf(file))) {
    if (tag === PUBLIC_KEY) keys.push({ fingerprint: fingerprintOf(body), parts: [bytes] });
    else if (OF_A_KEY.has(tag)) keys.at(-1)?.parts.push(bytes);
    else throw new Error(`it holds something else than public keys (packet ${tag})`);
  }
  return keys.map(({ fingerprint, parts }) => ({ fingerprint, bytes: Buffer.concat(parts) }));
}

/** gpgv reads no armor: a file as text becomes the bytes that it carries. */
function binaryOf(file: Uint8Array): Uint8Array {
  const text = Buffer.from(file).toString("latin1");
  if (!text.includes("-----BEGIN PGP ")) return file;
  const block = /-----BEGIN PGP PUBLIC KEY BLOCK-----\r?\n((?:[^\n]*: [^\n]*\n)*)([^-]*)-----END PGP PUBLIC/g;
  const blocks = [...text.matchAll(block)].map(([, , content = ""]) => {
    // The last line is a checksum against bad telephone lines.
    const lines = content.split(/\r?\n/).filter((line) => !line.startsWith("="));
    return Buffer.from(lines.join(""), "base64");
  });
  if (blocks.length === 0) throw new Error("it holds no public key");
  return Buffer.concat(blocks);
}

interface Packet {
  readonly tag: number;
  readonly body: Uint8Array;
  /** With its header. */
  readonly bytes: Uint8Array;
}

function* packetsIn(data: Uint8Array): Generator<Packet> {
  let at = 0;
  for (let count = 0; at < data.length; count++) {
    const { tag, headerLength, bodyLength } = headerAt(Buffer.from(data.subarray(at, at + 6)));
    const end = at + headerLength + bodyLength;
    if (end > data.length || count >= MOST_PACKETS) throw new Error("it is damaged or cut off");
    yield { tag, body: data.subarray(at + headerLength, end), bytes: data.subarray(at, end) };
    at = end;
  }
}

function headerAt(header: Buffer): { tag: number; headerLength: number; bodyLength: number } {
  const first = header[0] ?? 0;
  if ((first & 0x80) === 0) throw new Error("it is no OpenPGP file");
  const isNew = (first & 0x40) !== 0;
  const tag = isNew ? first & 0x3f : (first >> 2) & 0x0f;
  const length = isNew ? newLength(header) : oldLength(header, first & 0x03);
  if (length === undefined) throw new Error("it is damaged or cut off");
  return { tag, ...length };
}

type Length = { headerLength: number; bodyLength: number } | undefined;

function newLength(header: Buffer): Length {
  const [, first = 256, second = 0] = header;
  if (first < 192) return { headerLength: 2, bodyLength: first };
  if (first < 224 && header.length >= 3)
    return { headerLength: 3, bodyLength: (first - 192) * 256 + second + 192 };
  if (first === 255 && header.length >= 6) return { headerLength: 6, bodyLength: header.readUInt32BE(2) };
  return undefined;
}

/** Type 3 goes on to the end of the file, which no key does. */
function oldLength(header: Buffer, type: number): Length {
  const width = [1, 2, 4][type];
  if (width === undefined || header.length < 1 + width) return undefined;
  return { headerLength: 1 + width, bodyLength: header.readUIntBE(1, width) };
}

function fingerprintOf(body: Uint8Array): string | undefined {
  if (body[0] !== 4) return undefined;
  const head = Buffer.from([0x99, body.length >> 8, body.length & 0xff]);
  return createHash("sha1").update(head).update(body).digest("hex").toUpperCase();
}
