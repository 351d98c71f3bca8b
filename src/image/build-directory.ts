/** The directory in which an image is made, and what is left of those whose maker was killed. */
import { randomBytes } from "node:crypto";
import { mkdir, readdir, statfs } from "node:fs/promises";
import { join } from "node:path";
import { processMark } from "../base/durable-file.ts";
import { run } from "../base/process.ts";
import { makeDirectory, requireTrusted } from "../base/trusted-file.ts";
import { formatBytes, MIB_BYTES } from "../base/units.ts";
import { removeTree } from "./durable.ts";
import { ImageError } from "./errors.ts";
import type { Variant } from "./packages.ts";

/** A build needs about this much for a short while; the finished image takes about a sixth of it. */
const BUILD_SPACE_BYTES: Readonly<Record<Variant, number>> = {
  base: 1_200 * MIB_BYTES,
  full: 1_800 * MIB_BYTES,
  containers: 1_600 * MIB_BYTES,
  docker: 2_200 * MIB_BYTES,
};

const BUILD_TOOLS: Readonly<Record<string, string>> = {
  mmdebstrap: "mmdebstrap",
  mksquashfs: "squashfs-tools",
  unsquashfs: "squashfs-tools",
  setpriv: "util-linux",
  unshare: "util-linux",
};

export async function openBuildDirectory(imagesDirectory: string): Promise<string> {
  await makeDirectory(imagesDirectory, 0o755);
  await requireTrusted(imagesDirectory);
  await removeStaleBuilds(imagesDirectory);
  const mark = await processMark(process.pid);
  const path = join(imagesDirectory, `.build-${mark}-${randomBytes(3).toString("hex")}`);
  await mkdir(path, { mode: 0o755 });
  return path;
}

/** Removes the directories of builds whose process is gone. */
export async function removeStaleBuilds(imagesDirectory: string): Promise<void> {
  for (const name of await readdir(imagesDirectory)) {
    const [, mark, pid] = /^\.build-((\d+)-\d+)-/.exec(name) ?? [];
    if (mark === undefined || (await processMark(Number(pid))) === mark) continue;
    // What cannot be removed, because something is mounted in it, stays: it is never listed, and a build can do without.
    await removeTree(join(imagesDirectory, name)).catch(() => {});
  }
}

/** Which package each program of `tools` comes in. */
export async function requireTools(doing = "building an image", tools = BUILD_TOOLS): Promise<void> {
  const script = 'for tool; do command -v "$tool" >/dev/null || echo "$tool"; done';
  const missing = (await run("sh", ["-c", script, "sh", ...Object.keys(tools)])).split("\n").filter(Boolean);
  if (missing.length === 0) return;
  const packages = [...new Set(missing.map((tool) => tools[tool] ?? tool))];
  throw new ImageError("image_tools_missing", `${doing} needs ${missing.join(" and ")}`, {
    hint: `install them: apt-get install ${packages.join(" ")}`,
  });
}

export async function requireBuildSpace(directory: string, variant: Variant): Promise<void> {
  await requireSpace(directory, BUILD_SPACE_BYTES[variant], `building the image ${variant}`);
}

export async function requireSpace(directory: string, neededBytes: number, doing: string): Promise<void> {
  const { bavail, bsize } = await statfs(directory);
  const free = bavail * bsize;
  if (free >= neededBytes) return;
  throw new ImageError(
    "image_no_space",
    `${doing} needs ${formatBytes(neededBytes)} in ${directory}, which has ${formatBytes(free)} left`,
    { hint: "free some space, or choose another image directory" },
  );
}
