import { createCipheriv, createDecipheriv, createHmac, hkdfSync } from "node:crypto";
import { Secret } from "../base/secret.ts";
import { StoreError } from "./errors.ts";

export const KEY_BYTES = 32;

const NONCE_BYTES = 12;
const TAG_BYTES = 16;

/** What the installation's key is good for. Each use has a subkey of its own, so that none says anything of another. */
export interface Vault {
  /** AES-256-GCM under a fresh nonce, bound to the job: nonce, tag, ciphertext. */
  seal(jobId: number, payload: string): Uint8Array;
  /** Throws `store_corrupt` for anything that `seal` did not make for this job under this key. */
  open(jobId: number, sealed: Uint8Array): string;
  machineToken(machineId: string): Secret;
}

export function createVault(key: Uint8Array, random: (size: number) => Uint8Array): Vault {
  const payloadKey = subkey(key, "firerunner payload v1");
  const machineKey = subkey(key, "firerunner machine token v1");

  return {
    seal(jobId, payload) {
      const nonce = random(NONCE_BYTES);
      const cipher = createCipheriv("aes-256-gcm", payloadKey, nonce).setAAD(additionalData(jobId));
      const ciphertext = Buffer.concat([cipher.update(payload, "utf8"), cipher.final()]);
      return Buffer.concat([nonce, cipher.getAuthTag(), ciphertext]);
    },

    open(jobId, sealed) {
      const nonce = sealed.subarray(0, NONCE_BYTES);
      const tag = sealed.subarray(NONCE_BYTES, NONCE_BYTES + TAG_BYTES);
      try {
        const decipher = createDecipheriv("aes-256-gcm", payloadKey, nonce, { authTagLength: TAG_BYTES });
        decipher.setAAD(additionalData(jobId)).setAuthTag(tag);
        const start = decipher.update(sealed.subarray(NONCE_BYTES + TAG_BYTES));
        return Buffer.concat([start, decipher.final()]).toString("utf8");
      } catch (cause) {
        throw new StoreError("store_corrupt", `the payload of job ${jobId} cannot be decrypted`, {
          cause,
          hint: "it was damaged on the disk, or encrypted with another key",
        });
      }
    },

    machineToken(machineId) {
      return new Secret(`frmt-${createHmac("sha256", machineKey).update(machineId).digest("base64url")}`);
    },
  };
}

function subkey(key: Uint8Array, purpose: string): Buffer {
  return Buffer.from(hkdfSync("sha256", key, "", purpose, KEY_BYTES));
}

function additionalData(jobId: number): Buffer {
  return Buffer.from(`job ${jobId}`);
}
