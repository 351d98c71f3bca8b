import { mkdir, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../base/clock.ts";
import { formatBytes } from "../base/units.ts";
import { download, downloadText } from "./download.ts";
import { hashFile } from "./durable.ts";
import { ImageError } from "./errors.ts";
import type { OnProgress } from "./progress.ts";
import release from "./runner-release.json" with { type: "json" };

export interface ReleaseOptions {
  readonly architecture: string;
  /** Where downloads are kept between builds. */
  readonly directory: string;
  readonly mirror?: string | undefined;
  readonly clock: Clock;
  readonly signal?: AbortSignal | undefined;
}

export const RUNNER_RELEASE_VERSION: string = release.version;

const PROGRESS_STEP = 0.01;

/** The pinned gitlab-runner, if it has been downloaded before. */
export async function downloadedRunner(options: ReleaseOptions): Promise<string | undefined> {
  const path = targetPath(options);
  return await stat(path).then(
    () => path,
    () => undefined,
  );
}

/**
 * Downloads the pinned gitlab-runner and returns its path. It must be the file that the release's own list of digests
 * names, and where the pin holds a digest too, that one.
 */
export async function downloadRunner(options: ReleaseOptions, onProgress: OnProgress): Promise<string> {
  const target = targetPath(options);
  const file = `gitlab-runner-linux-${options.architecture}`;
  const base = `${(options.mirror ?? release.mirror).replace(/\/$/, "")}/${release.version}`;
  onProgress({ phase: "runner", line: `Downloading gitlab-runner ${release.version} from ${base}` });
  const list = await downloadText(`${base}/release.sha256`, 1024 * 1024, options.signal);
  const sha256 = digestInList(list, file);
  const pinned = (release.sha256 as Record<string, string | undefined>)[options.architecture];
  if (sha256 === undefined || (pinned !== undefined && pinned !== sha256))
    throw new ImageError(
      "image_download_wrong",
      `${base}/release.sha256 does not name the expected ${file}`,
      {
        hint: "check the mirror: it must serve the unchanged release",
      },
    );
  if ((await downloadedRunner(options)) && (await hashFile(target)).sha256 === sha256) return target;
  await mkdir(options.directory, { recursive: true, mode: 0o755 });
  let shown = 0;
  const onBytes = (done: number, total: number | undefined) => {
    if (total === undefined || done / total < shown + PROGRESS_STEP) return;
    shown = done / total;
    onProgress({
      phase: "runner",
      fraction: shown,
      line: `gitlab-runner: ${formatBytes(done)} of ${formatBytes(total)}`,
    });
  };
  const { clock, signal } = options;
  await download({ url: `${base}/binaries/${file}`, target, sha256, clock, onBytes, signal });
  return target;
}

/** `release.sha256` is what sha256sum prints: a digest, and a path that may start with `./` or `*`. */
export function digestInList(list: string, file: string): string | undefined {
  for (const line of list.split("\n")) {
    const [, digest, path] = /^([0-9a-f]{64})\s+\*?(\S+)$/.exec(line.trim()) ?? [];
    if (path?.split("/").at(-1) === file) return digest;
  }
  return undefined;
}

function targetPath({ directory, architecture }: ReleaseOptions): string {
  return join(directory, `gitlab-runner-${release.version}-${architecture}`);
}
