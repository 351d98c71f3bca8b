import { access, constants, readFile } from "node:fs/promises";
import type { Clock } from "../base/clock.ts";
import { describeError } from "../base/errors.ts";
import { guestFile } from "../base/guest-files.ts";
import type { ImagesConfig } from "./config.ts";
import { ImageError } from "./errors.ts";
import { type RunnerKind, sha256 } from "./manifest.ts";
import type { OnProgress } from "./progress.ts";
import { downloadedRunner, downloadRunner, RUNNER_RELEASE_VERSION } from "./runner-release.ts";

/** `auto`: the official release, or the stand-in when that cannot be downloaded here. */
export type RunnerChoice =
  | { readonly kind: "auto" | "official" | "stand-in" }
  | { readonly kind: "path"; readonly path: string };

export interface ChosenRunner {
  readonly kind: RunnerKind;
  readonly path: string;
  readonly sha256: string;
  readonly notes: readonly string[];
}

interface RunnerContext {
  readonly directory: string;
  readonly architecture: string;
  readonly config: ImagesConfig;
  readonly clock: Clock;
  readonly signal?: AbortSignal | undefined;
  /** Is there an image with the runner of this sha256, apart from that made from the same recipe? */
  readonly isBuilt: (runnerSha256: string) => boolean;
}

export async function chooseRunner(
  choice: RunnerChoice,
  context: RunnerContext,
  onProgress: OnProgress,
): Promise<ChosenRunner> {
  switch (choice.kind) {
    case "path":
      return await describe("path", choice.path, []);
    case "stand-in":
      return await standIn([]);
    case "official":
      return await official(context, onProgress);
    case "auto":
      return await officialOrStandIn(context, onProgress);
  }
}

async function official(context: RunnerContext, onProgress: OnProgress): Promise<ChosenRunner> {
  const options = releaseOptions(context);
  const path = (await downloadedRunner(options)) ?? (await downloadRunner(options, onProgress));
  return await describe("official", path, []);
}

/** An image with the stand-in that is already there is kept, so that a computer without network does not try each time. */
async function officialOrStandIn(context: RunnerContext, onProgress: OnProgress): Promise<ChosenRunner> {
  const fallback = await standIn([]);
  if (!(await downloadedRunner(releaseOptions(context))) && context.isBuilt(fallback.sha256))
    return { ...fallback, notes: [standInNote("it was chosen when this image was first built")] };
  try {
    return await official(context, onProgress);
  } catch (error) {
    context.signal?.throwIfAborted();
    if (!(error instanceof ImageError) || error.code !== "image_download_failed") throw error;
    const note = standInNote(describeError(error));
    onProgress({ phase: "runner", line: note });
    return { ...fallback, notes: [note] };
  }
}

function standInNote(reason: string): string {
  return (
    `This image holds the stand-in runner, not the official gitlab-runner ${RUNNER_RELEASE_VERSION}: ${reason}. ` +
    "It runs shell jobs (git, script, variables, artifacts), but no cache, no services and no container images. " +
    "Give the official one with: firerunner image build --runner PATH, or --runner official where it can be downloaded."
  );
}

function releaseOptions({ directory, architecture, config, clock, signal }: RunnerContext) {
  return { directory: `${directory}/downloads`, architecture, mirror: config.runnerMirror, clock, signal };
}

async function standIn(notes: readonly string[]): Promise<ChosenRunner> {
  return await describe("stand-in", guestFile("stand-in-runner"), notes);
}

async function describe(kind: RunnerKind, path: string, notes: readonly string[]): Promise<ChosenRunner> {
  try {
    if (kind === "path") await access(path, constants.R_OK | constants.X_OK);
    return { kind, path, sha256: sha256(await readFile(path)), notes };
  } catch (cause) {
    throw new ImageError("image_runner_broken", `the runner ${path} cannot be read or is not executable`, {
      cause,
      hint: "give the path of a gitlab-runner program, and make it executable: chmod +x PATH",
    });
  }
}
