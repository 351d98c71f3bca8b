import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import type { Clock } from "../../base/clock.ts";
import { Secret } from "../../base/secret.ts";

const SECRET_BYTES = 32;

interface TrialLink {
  readonly secretHash: Buffer;
  firstWordAt: number | undefined;
}

/** The secrets of machines that only try a host out. The store knows nothing of them: they have no job, and die with the process. */
export interface TrialLinks {
  issue(machineId: string): Secret;
  /** In a time that does not depend on where a wrong secret differs. The first right one is the machine's first word. */
  check(machineId: string, secret: string): boolean;
  /** When the machine first proved itself (epoch ms). */
  firstWordAt(machineId: string): number | undefined;
  forget(machineId: string): void;
}

export function createTrialLinks(
  clock: Clock,
  random: (size: number) => Uint8Array = randomBytes,
): TrialLinks {
  const links = new Map<string, TrialLink>();
  return {
    issue(machineId) {
      const secret = Buffer.from(random(SECRET_BYTES)).toString("hex");
      links.set(machineId, { secretHash: hashOf(secret), firstWordAt: undefined });
      return new Secret(secret);
    },
    check(machineId, secret) {
      const link = links.get(machineId);
      const isRight = timingSafeEqual(link?.secretHash ?? hashOf(""), hashOf(secret)) && link !== undefined;
      if (isRight) link.firstWordAt ??= clock.now();
      return isRight;
    },
    firstWordAt: (machineId) => links.get(machineId)?.firstWordAt,
    forget: (machineId) => void links.delete(machineId),
  };
}

function hashOf(secret: string): Buffer {
  return createHash("sha256").update(secret).digest();
}
