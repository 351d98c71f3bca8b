import { randomBytes } from "node:crypto";
import type { Clock } from "../../base/clock.ts";
import type { Secret } from "../../base/secret.ts";
import { isLinkSecret, linkHashOf, newLinkSecret } from "../../base/secret.ts";

interface TrialLink {
  readonly secretHash: string;
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
      const secret = newLinkSecret(random);
      links.set(machineId, { secretHash: linkHashOf(secret.reveal()), firstWordAt: undefined });
      return secret;
    },
    check(machineId, secret) {
      const link = links.get(machineId);
      const isRight = isLinkSecret(secret, link?.secretHash);
      if (isRight && link) link.firstWordAt ??= clock.now();
      return isRight;
    },
    firstWordAt: (machineId) => links.get(machineId)?.firstWordAt,
    forget: (machineId) => void links.delete(machineId),
  };
}
