import { InvalidArgumentError } from "commander";
import { CliError } from "./errors.ts";

/** A whole number from 1. */
export function countOption(text: string): number {
  const count = Number(text);
  if (Number.isSafeInteger(count) && count >= 1 && count <= 10_000) return count;
  throw new InvalidArgumentError("Give a whole number from 1 to 10000.");
}

/** GitLab's job id, as a number or as the end of the address of the job's page. */
export function jobArgument(text: string | undefined): number {
  const digits = /^(?:#|.*\/jobs\/)?(\d{1,15})$/.exec(text ?? "")?.[1];
  if (digits !== undefined && Number(digits) > 0) return Number(digits);
  throw new CliError("cli_usage", `“${text}” is not a job`, {
    hint: "Give GitLab's job id (a number), or the address of the job's page.",
  });
}
