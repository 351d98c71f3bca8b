import { FireRunnerError } from "../base/errors.ts";

/** Listed for people in docs/cli.md. */
export const exitCodes = { ok: 0, failed: 1, usage: 2, notRunning: 3, notFound: 4 } as const;

const byCode: Readonly<Record<string, number>> = {
  cli_usage: exitCodes.usage,
  config_invalid: exitCodes.usage,
  config_unreadable: exitCodes.usage,
  bad_request: exitCodes.usage,
  registry_bad_name: exitCodes.usage,
  cli_not_running: exitCodes.notRunning,
  not_found: exitCodes.notFound,
  image_missing: exitCodes.notFound,
};

export function exitCodeOf(error: unknown): number {
  return (error instanceof FireRunnerError ? byCode[error.code] : undefined) ?? exitCodes.failed;
}
