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

/** Tags with commas between, as GitLab's own forms take them. */
export function tagsOption(text: string): string[] {
  const tags = [...new Set(text.split(",").map((tag) => tag.trim()))].filter((tag) => tag !== "");
  if (tags.length > 0) return tags;
  throw new InvalidArgumentError("Give tags with commas between, such as firecracker-2cpu-4gb,docker.");
}

/** An id of GitLab's. */
export function idOption(text: string): number {
  const id = Number(text);
  if (/^\d{1,15}$/.test(text) && id > 0) return id;
  throw new InvalidArgumentError("Give GitLab's id, a whole number from 1.");
}
