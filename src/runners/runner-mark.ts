/** How our runners are found again in GitLab, even when nothing here remembers them: by the end of their description. */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";

/** GitLab's limit for a description. */
const MOST_CHARACTERS = 1_024;

interface RunnerMark {
  /** Which installation of FireRunner made it. */
  readonly installation: string;
  readonly key: string;
}

/** `FireRunner on HOST: TAGS [fr:INSTALLATION/KEY]`. The mark comes last, where no tag can stand, and is never cut off. */
export function describeRunner(
  runner: RunnerMark & { readonly hostname: string; readonly tags: readonly string[] },
): string {
  const mark = ` [fr:${runner.installation}/${runner.key}]`;
  const words = [...`FireRunner on ${runner.hostname}: ${runner.tags.join(", ")}`];
  return words.slice(0, MOST_CHARACTERS - mark.length).join("") + mark;
}

/** Undefined for a runner that no FireRunner made. */
export function readMark(description: string): RunnerMark | undefined {
  const [, installation, key] = /\[fr:([^\s/[\]]+)\/([^\s/[\]]+)\]\s*$/.exec(description) ?? [];
  return installation === undefined || key === undefined ? undefined : { installation, key };
}

/**
 * The mark by which this installation finds its runners again in GitLab, even without its store: of the configuration, or made
 * from this computer's id and the state directory. Where the computer has no id, as in some containers, it is the store's own.
 */
export async function installationMark(options: {
  readonly configured: string | undefined;
  readonly state: string;
  /** The store's id of this installation. */
  readonly installationId: string;
  /** systemd's machine id: 32 hex digits. */
  readonly machineIdFile?: string;
}): Promise<string> {
  const { configured, state, installationId, machineIdFile = "/etc/machine-id" } = options;
  if (configured !== undefined) return configured;
  const text = await readFile(machineIdFile, "utf8").catch(() => "");
  const machineId = /^[0-9a-f]{32}$/.exec(text.trim())?.[0];
  if (machineId === undefined) return installationId;
  // Hashed, because a machine id is not to be shown to others (machine-id(5)).
  return createHash("sha256").update(`firerunner ${machineId} ${state}`).digest("hex").slice(0, 12);
}
