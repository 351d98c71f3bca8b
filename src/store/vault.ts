import {
  createCipheriv,
  createDecipheriv,
  createHmac,
  createSecretKey,
  hkdfSync,
  type KeyObject,
} from "node:crypto";
import { Secret } from "../base/secret.ts";
import { StoreError } from "./errors.ts";

export const KEY_BYTES = 32;

const NONCE_BYTES = 12;
const TAG_BYTES = 16;

/** What the installation's key is good for. Each use has a subkey of its own, so that none says anything of another. */
export interface Vault {
  /** GitLab's payload of a job, bound to the job. */
  readonly payloads: SealedTexts<number>;
  /** The token of a runner that we have made, bound to the runner's key. */
  readonly runnerTokens: SealedTexts<string>;
  machineToken(machineId: string): Secret;
}

/** AES-256-GCM under a fresh nonce, bound to whose text it is: nonce, tag, ciphertext. */
interface SealedTexts<Owner> {
  seal(owner: Owner, text: string): Uint8Array;
  /** Throws `store_corrupt` for anything that `seal` did not make for this owner under this key. */
  open(owner: Owner, sealed: Uint8Array): string;
}

export function createVault(key: Uint8Array, random: (size: number) => Uint8Array): Vault {
  const machineKey = subkey(key, "firerunner machine token v1");

  function sealedTexts<Owner>(purpose: string, what: string, named: (owner: Owner) => string) {
    const own = subkey(key, purpose);
    return {
      seal: (owner: Owner, text: string) => seal(own, random(NONCE_BYTES), named(owner), text),
      open(owner: Owner, sealed: Uint8Array) {
        try {
          return open(own, named(owner), sealed);
        } catch (cause) {
          throw new StoreError("store_corrupt", `the ${what} of ${named(owner)} cannot be decrypted`, {
            cause,
            hint: "it was damaged on the disk, or encrypted with another key",
          });
        }
      },
    };
  }

  return {
    payloads: sealedTexts("firerunner payload v1", "payload", (jobId) => `job ${jobId}`),
    runnerTokens: sealedTexts("firerunner runner token v1", "token", (runner) => `runner ${runner}`),
    machineToken(machineId) {
      return new Secret(`frmt-${createHmac("sha256", machineKey).update(machineId).digest("base64url")}`);
    },
  };
}

function seal(key: KeyObject, nonce: Uint8Array, owner: string, text: string): Uint8Array {
  const cipher = createCipheriv("aes-256-gcm", key, nonce).setAAD(Buffer.from(owner));
  const ciphertext = Buffer.concat([cipher.update(text, "utf8"), cipher.final()]);
  return Buffer.concat([nonce, cipher.getAuthTag(), ciphertext]);
}

function open(key: KeyObject, owner: string, sealed: Uint8Array): string {
  const nonce = sealed.subarray(0, NONCE_BYTES);
  const tag = sealed.subarray(NONCE_BYTES, NONCE_BYTES + TAG_BYTES);
  const decipher = createDecipheriv("aes-256-gcm", key, nonce, { authTagLength: TAG_BYTES });
  decipher.setAAD(Buffer.from(owner)).setAuthTag(tag);
  const start = decipher.update(sealed.subarray(NONCE_BYTES + TAG_BYTES));
  return Buffer.concat([start, decipher.final()]).toString("utf8");
}

function subkey(key: Uint8Array, purpose: string): KeyObject {
  return createSecretKey(Buffer.from(hkdfSync("sha256", key, "", purpose, KEY_BYTES)));
}
