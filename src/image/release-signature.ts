/**
 * Whether a release's list of digests is signed by the one key that is trusted for it. The check is gpgv's; whose key it was is
 * compared here, with a fingerprint that comes with this program, so that it does not matter who served the key.
 */

import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../base/clock.ts";
import { describeError } from "../base/errors.ts";
import { ProcessError, run } from "../base/process.ts";
import { requireTools } from "./build-directory.ts";
import { ImageError } from "./errors.ts";
import { publicKeysIn } from "./openpgp.ts";

export interface SignedList {
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

export type SignatureResult =
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
