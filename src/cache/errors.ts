import { FireRunnerError } from "../base/errors.ts";

type CacheErrorCode =
  /** The archive of a cache is larger than one may be. */
  | "cache_too_large"
  /** There is no room for a cache, though what was not used for longest has been removed. */
  | "cache_no_space"
  /** The body of a cache ended before, or went on behind, the length that was said. */
  | "cache_cut"
  /** The directory of caches cannot be used. */
  | "cache_directory"
  /** The S3 server does not take FireRunner's requests: keys, bucket or region are wrong. */
  | "cache_server_refused"
  /** The S3 server cannot be reached, or answers with an error of its own. */
  | "cache_server_unavailable";

export class CacheError extends FireRunnerError {
  declare readonly code: CacheErrorCode;

  constructor(
    code: CacheErrorCode,
    message: string,
    options: ErrorOptions & { hint?: string; retryable?: boolean } = {},
  ) {
    super(code, message, options);
  }
}
