import { InvalidArgumentError } from "commander";
import { systemClock } from "../base/clock.ts";
import { describeError } from "../base/errors.ts";
import { parseDurationMs } from "../base/units.ts";
import { CliError } from "./errors.ts";

/** A whole number from 1. */
export function countOption(text: string): number {
  const count = Number(text);
  if (Number.isSafeInteger(count) && count >= 1 && count <= 10_000) return count;
  throw new InvalidArgumentError("Give a whole number from 1 to 10000.");
}

/** A moment (epoch ms): so long ago (`90m`, `7d`), or a date, with a time or without; without a zone it is this computer's. */
export function sinceOption(text: string): number {
  const now = systemClock.now();
  const at = /^\d{4}-/.test(text) ? dateOf(text) : momentAgo(text, now);
  if (at !== undefined && at >= 0 && at <= now) return at;
  throw new InvalidArgumentError(
    "Give a time that has passed: 90m, 24h or 7d, or a date such as 2026-11-01 or 2026-11-01T08:30.",
  );
}

/** In ms. */
export function durationOption(text: string): number {
  try {
    return parseDurationMs(text);
  } catch (error) {
    throw new InvalidArgumentError(`${describeError(error)}.`);
  }
}

function dateOf(text: string): number | undefined {
  const at = new Date(/^\d{4}-\d\d-\d\d$/.test(text) ? `${text}T00:00` : text).getTime();
  return Number.isNaN(at) ? undefined : at;
}

function momentAgo(text: string, now: number): number | undefined {
  try {
    return now - parseDurationMs(text);
  } catch {
    return undefined;
  }
}

/** Some of the words, with commas between or by giving the option again. */
export function wordsOption<const Word extends string>(known: readonly Word[]) {
  return (text: string, before: readonly Word[] = []): readonly Word[] => {
    const given = text.split(",").map((word) => known.find((each) => each === word.trim().toLowerCase()));
    const words = given.filter((word) => word !== undefined);
    if (words.length < given.length) throw new InvalidArgumentError(`Give some of ${known.join(", ")}.`);
    return [...new Set([...before, ...words])];
  };
}

/** The path of a project or group, also as the address of its page. */
export function projectOption(text: string): string {
  const path = (URL.parse(text)?.pathname ?? text).replace(/\/-\/.*$/, "").replace(/^\/+|\/+$|\.git$/g, "");
  if (path !== "" && path.length <= 1_000) return path;
  throw new InvalidArgumentError("Give the path of a project or group, such as engineering/app.");
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
