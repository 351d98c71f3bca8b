import { CliError } from "../errors.ts";

/** Whoever was asked does not want to go on. */
export function canceled(): CliError {
  return new CliError("cli_canceled", "left before the end; nothing was written");
}
