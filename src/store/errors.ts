import { FireRunnerError } from "../base/errors.ts";
import { UntrustedError } from "../base/trusted-file.ts";

export type StoreErrorCode =
  /** Another FireRunner uses the same state directory. */
  | "store_locked"
  /** The disk (or the database's own limit) is full. */
  | "store_full"
  /** The database, or a payload in it, is not what we wrote. */
  | "store_corrupt"
  /** The database was written by a newer FireRunner. */
  | "store_newer"
  /** The key is missing, readable by others, of the wrong length, or not the one the payloads were encrypted with. */
  | "store_key"
  /** Anything else: no permission, no such directory, closed, a bug. */
  | "store_failed";

/** What the store throws. Only `store_full` and a busy database are worth another try. */
export class StoreError extends FireRunnerError {
  constructor(
    code: StoreErrorCode,
    message: string,
    options: ErrorOptions & { hint?: string; retryable?: boolean } = {},
  ) {
    super(code, message, options);
  }
}

interface Diagnosis {
  readonly code: StoreErrorCode;
  readonly problem: string;
  readonly hint?: string;
  readonly retryable?: boolean;
}

const full: Diagnosis = {
  code: "store_full",
  problem: "the disk is full",
  hint: "free some space on the disk of the state directory; nothing is claimed until there is room",
  retryable: true,
};
const corrupt: Diagnosis = {
  code: "store_corrupt",
  problem: "the database is damaged",
  hint: "check the disk, then restore firerunner.db from a backup, or move it away to start empty",
};
const denied: Diagnosis = {
  code: "store_failed",
  problem: "the database cannot be opened or written",
  hint: "check that the state directory exists and belongs to the user FireRunner runs as",
};
const busy: Diagnosis = { code: "store_failed", problem: "the database is busy", retryable: true };
const other: Diagnosis = { code: "store_failed", problem: "the database refused" };

/** SQLite's primary result codes: https://sqlite.org/rescode.html */
const bySqliteCode: Readonly<Record<number, Diagnosis>> = {
  3: denied,
  5: busy,
  6: busy,
  8: denied,
  11: corrupt,
  13: full,
  14: denied,
  26: corrupt,
};

/** PostgreSQL's: https://www.postgresql.org/docs/current/errcodes-appendix.html */
const byPostgresCode: Readonly<Record<string, Diagnosis>> = {
  "53100": full,
  XX001: corrupt,
  XX002: corrupt,
  "40001": busy,
  "40P01": busy,
};

/** Turns what a database driver threw while we did `what` (a gerund: "storing job 7") into a StoreError. */
export function toStoreError(what: string, cause: unknown): StoreError | UntrustedError {
  // What is not trusted has its own words and remedy.
  if (cause instanceof StoreError || cause instanceof UntrustedError) return cause;
  const { code, problem, ...advice } = diagnose(cause);
  return new StoreError(code, `${what} failed: ${problem}`, { ...advice, cause });
}

/** The database's shared memory could not grow: it lies on the same disk. */
const SQLITE_IOERR_SHMSIZE = 4874;

function diagnose(cause: unknown): Diagnosis {
  const { errcode, code } = Object(cause) as { errcode?: unknown; code?: unknown };
  if (errcode === SQLITE_IOERR_SHMSIZE || code === "ENOSPC" || code === "EDQUOT") return full;
  if (typeof errcode === "number") return bySqliteCode[errcode & 0xff] ?? other;
  return (typeof code === "string" ? byPostgresCode[code] : undefined) ?? other;
}
