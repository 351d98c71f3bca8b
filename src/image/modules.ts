import { basename } from "node:path";
import { ImageError } from "./errors.ts";

/**
 * The kernel modules a machine needs before it has its root file system, and the one that gives it randomness: without that
 * the first program that asks for some waits a second and more. What the kernel has built in is left out.
 */
export const BOOT_MODULES = [
  "virtio_mmio",
  "virtio_blk",
  "virtio_net",
  "virtio_rng",
  "squashfs",
  "overlay",
  "ext4",
] as const;

/** `kernel/drivers/net/virtio_net.ko.xz` → `virtio_net`; module names take `-` and `_` as one. */
export function moduleName(path: string): string {
  return basename(path)
    .replace(/\.ko(\.\w+)?$/, "")
    .replaceAll("-", "_");
}

export interface ModulePlan {
  /** Paths below /lib/modules/<version>, each after everything it needs. */
  readonly files: readonly string[];
  /** A `modules.dep` for them all lying in one directory, uncompressed. */
  readonly dependencies: string;
  /** The wanted modules that are not built in, by name. */
  readonly names: readonly string[];
}

/** Works out which files `wanted` takes, from depmod's `modules.dep` and the kernel's `modules.builtin`. */
export function planModules(
  wanted: readonly string[],
  modulesDep: string,
  modulesBuiltin: string,
): ModulePlan {
  const builtin = new Set(lines(modulesBuiltin).map(moduleName));
  const table = new Map(lines(modulesDep).map(parseDependencyLine));
  const names = wanted.filter((name) => !builtin.has(name));
  const byName = new Map([...table.keys()].map((path) => [moduleName(path), path]));
  const files = new Set<string>();

  function add(path: string): void {
    if (files.has(path)) return;
    // depmod lists all that is needed, direct or not, in the order in which it would be unloaded.
    for (const dependency of (table.get(path) ?? []).toReversed()) add(dependency);
    files.add(path);
  }

  for (const name of names) {
    const path = byName.get(name);
    if (path === undefined)
      throw new ImageError("image_build_failed", `the kernel package has no module ${name}`);
    add(path);
  }
  const dependencies = [...files].map((path) => dependencyLine(path, table.get(path) ?? [])).join("");
  return { files: [...files], dependencies, names };
}

function dependencyLine(path: string, needs: readonly string[]): string {
  const flat = (each: string) => `${moduleName(each)}.ko`;
  return `${[`${flat(path)}:`, ...needs.map(flat)].join(" ")}\n`;
}

function parseDependencyLine(line: string): [string, string[]] {
  const [path = "", needs = ""] = line.split(":");
  return [path, needs.split(" ").filter(Boolean)];
}

function lines(text: string): string[] {
  return text.split("\n").filter(Boolean);
}
