/** Images of jobs on this computer: how much of its disk they have, whether more can come, and whether those that are to be at hand are. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { systemClock } from "../../base/clock.ts";
import { formatBytes, MIB_BYTES } from "../../base/units.ts";
import type { Config } from "../../config/load.ts";
import { containersDirectory } from "../../containers/config.ts";
import { Keeper } from "../../containers/keep/keeper.ts";
import { RECORDS_FILE } from "../../containers/keep/records.ts";
import { parseImageName } from "../../containers/reference.ts";
import { answer, type DoctorCheck, type Finding } from "./findings.ts";

type Wanted = Pick<Config, "containers" | "state" | "images">;

export function jobImageChecks(config: Wanted): DoctorCheck[] {
  return [{ name: "images of jobs", run: answer(async () => await lookAtImages(config)) }];
}

export async function lookAtImages(config: Wanted): Promise<Finding> {
  const { warm } = config.images;
  const directory = containersDirectory(config);
  const bad = warm.find((name) => namedBy(name) === undefined);
  if (bad !== undefined)
    return {
      level: "fail",
      message: `“${bad}” of images.warm is no container image`,
      hint: "Name it as jobs do, such as node:24.",
    };
  if (!existsSync(join(directory, RECORDS_FILE)))
    return warm.length === 0
      ? { level: "ok", message: `none yet; they will be kept in ${directory}` }
      : missing(warm);
  const { size, minFree } = config.containers.cache;
  const sizes = { sizeBytes: size * MIB_BYTES, minFreeBytes: minFree * MIB_BYTES };
  const keeper = await Keeper.open({ directory, ...sizes, clock: systemClock });
  try {
    const full = await keeper.roomProblem();
    const message = `${formatBytes(keeper.usedBytes())} of ${formatBytes(sizes.sizeBytes)} in ${directory}, ${formatBytes(keeper.evictableBytes())} of it unused`;
    if (full)
      return {
        level: "fail",
        message: full.message,
        hint: "Make room on it, or name another directory with containers.cache.directory.",
      };
    const here = new Set(keeper.disks().map(({ name }) => name));
    const absent = warm.filter((name) => !here.has(namedBy(name) ?? ""));
    return absent.length === 0 ? { level: "ok", message } : missing(absent);
  } finally {
    keeper.close();
  }
}

function missing(names: readonly string[]): Finding {
  return {
    level: "warn",
    message: `not at hand, though images.warm names ${names.length === 1 ? "it" : "them"}: ${names.join(", ")}`,
    hint: "A FireRunner that runs fetches them; firerunner status says why one cannot be had, and so does firerunner image cache pull NAME.",
  };
}

function namedBy(text: string): string | undefined {
  try {
    return parseImageName(text).name;
  } catch {
    return undefined;
  }
}
