/** A job's log at GitLab: appending where GitLab may have more or less than we think, secrets masked, checksums of parts. */
import type { Secret } from "../base/secret.ts";
import type { JobPayload, RunnerApi, TraceStatus } from "./runner-api.ts";

/** More corrections than this mean that somebody else writes to the same trace. */
const MOST_CORRECTIONS = 3;

interface TraceAppend {
  readonly api: Pick<RunnerApi, "appendTrace">;
  readonly jobId: number;
  readonly jobToken: Secret;
  /** Where `bytes` belong in GitLab's trace. */
  readonly startBytes: number;
  readonly bytes: Uint8Array;
}

/**
 * Appends to a trace, leaving out what GitLab already has (an earlier answer was lost). `elsewhere` is answered only when GitLab
 * has less than `startBytes`: the caller must begin again at its `sizeBytes`. Nothing to send is `accepted` with no status.
 */
export async function appendWithRecovery(append: TraceAppend): Promise<TraceStatus> {
  const { api, jobId, jobToken, startBytes, bytes } = append;
  const endBytes = startBytes + bytes.length;
  let fromBytes = startBytes;
  for (let correction = 0; ; correction++) {
    if (fromBytes >= endBytes) {
      return { kind: "accepted", sizeBytes: fromBytes, status: undefined, intervalMs: undefined };
    }
    const rest = bytes.subarray(fromBytes - startBytes);
    const status = await api.appendTrace({ jobId, jobToken, startBytes: fromBytes, bytes: rest });
    if (status.kind !== "elsewhere" || status.sizeBytes < startBytes) return status;
    if (correction === MOST_CORRECTIONS) {
      const problem = `writing the trace of job ${jobId}: GitLab's size of it keeps changing`;
      return { kind: "unavailable", waitMs: 0, problem };
    }
    fromBytes = status.sizeBytes;
  }
}

/** Lines of a longer secret that are worth hiding alone: a console may show only some of them. */
const SHORTEST_LINE = 8;

/**
 * Replaces the secrets of a job by `[MASKED]`: its token, those of its dependencies, registry passwords and the values of its masked
 * variables, also when line ends differ or only some lines of a value are there. For text that did not go through the job's runner.
 */
export function maskSecrets(text: string, payload: JobPayload): string {
  const phrases = secretPhrases(payload);
  if (phrases.length === 0) return text;
  return text.replace(new RegExp(phrases.map(escapeRegExp).join("|"), "g"), "[MASKED]");
}

/** Longest first, so that a secret inside another does not leave the rest of it standing. */
function secretPhrases(payload: JobPayload): string[] {
  const variables = (payload.variables ?? []).filter((variable) => variable.masked);
  const secrets = [
    payload.token,
    ...(payload.dependencies ?? []).map((dependency) => dependency.token),
    ...(payload.credentials ?? []).map((credential) => credential.password ?? ""),
    ...variables.map((variable) => variable.value),
  ];
  const phrases = new Set(secrets.flatMap((secret) => formsOf(secret.trim())));
  return [...phrases].toSorted((a, b) => b.length - a.length);
}

function formsOf(secret: string): string[] {
  if (secret === "") return [];
  const lines = secret.split(/\r?\n/);
  const longLines = lines.filter((line) => line.trim().length >= SHORTEST_LINE);
  return [lines.join("\n"), lines.join("\r\n"), ...longLines];
}

function escapeRegExp(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");
}

const POLYNOMIAL = 0xedb88320;

/**
 * The CRC-32 of two byte strings put together, from the CRC of each and the length of the second: the first CRC is shifted by
 * that many zero bytes, each doubling being one squared matrix over GF(2). `node:zlib`'s `crc32` gives the parts.
 */
export function crc32Combine(first: number, second: number, secondLengthBytes: number): number {
  let shifted = first;
  // The operator for one zero bit, squared three times: one zero byte.
  let operator = square(square(square(oneZeroBit())));
  for (let left = secondLengthBytes; left > 0; left = Math.floor(left / 2)) {
    if (left % 2 === 1) shifted = times(operator, shifted);
    operator = square(operator);
  }
  return (shifted ^ second) >>> 0;
}

/** 32 columns; column i is where bit i goes. */
type Matrix = readonly number[];

function oneZeroBit(): Matrix {
  return Array.from({ length: 32 }, (_, bit) => (bit === 0 ? POLYNOMIAL : 1 << (bit - 1)));
}

function times(matrix: Matrix, vector: number): number {
  let sum = 0;
  for (let bit = 0; bit < 32; bit++) {
    if ((vector >>> bit) & 1) sum ^= matrix[bit] ?? 0;
  }
  return sum;
}

function square(matrix: Matrix): Matrix {
  return matrix.map((column) => times(matrix, column));
}
