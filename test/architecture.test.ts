import { globSync, readFileSync } from "node:fs";
import { dirname, join, normalize, relative } from "node:path";
import { describe, expect, test } from "vitest";

const root = join(import.meta.dirname, "..");

/**
 * Who may import whom. A room may always import itself. An entry names a room, or one file of it (a port, a schema);
 * `*` is every room. The reasons stand in ARCHITECTURE.md.
 */
const mayImport: Record<string, readonly string[]> = {
  base: [],
  lifecycle: ["base"],
  store: ["base", "lifecycle"],
  gitlab: ["base"],
  guest: ["base", "lifecycle"],
  image: ["base", "lifecycle"],
  vm: ["base", "lifecycle"],
  intake: ["base", "lifecycle", "store", "gitlab"],
  relay: ["base", "lifecycle", "store", "gitlab"],
  scheduler: ["base", "lifecycle", "store", "gitlab", "guest", "vm/driver.ts"],
  http: ["base", "lifecycle", "store"],
  telemetry: ["base", "lifecycle"],
  config: [
    "base",
    "*/config.ts",
    "lifecycle/egress.ts",
    "lifecycle/guest-abilities.ts",
    "lifecycle/pool.ts",
    "lifecycle/routing.ts",
    "lifecycle/placement.ts",
    "vm/flintlock/host.ts",
  ],
  cli: [
    "base",
    "config",
    "http/api.ts",
    "http/webhook-api.ts",
    "http/trial-api.ts",
    "app.ts",
    "demo",
    "image",
  ],
  demo: ["base", "gitlab/payload.ts"],
  "app.ts": ["*"],
  app: ["*"],
  "main.ts": ["cli"],
};

interface Import {
  readonly from: string;
  readonly to: string;
}

const sources = globSync("src/**/*.ts", { cwd: root }).filter(
  (file) => !file.endsWith(".test.ts") && !file.endsWith(".contract.ts"),
);

const imports: Import[] = sources.flatMap((file) => importsOf(file).map((to) => ({ from: file, to })));

function importsOf(file: string): string[] {
  const text = readFileSync(join(root, file), "utf8");
  const specifiers = [...text.matchAll(/(?:from|import)\s*\(?\s*"(\.{1,2}\/[^"]+)"/g)].map(
    (match) => match[1] ?? "",
  );
  return specifiers.map((specifier) => relative("src", normalize(join(dirname(file), specifier))));
}

function roomOf(path: string): string {
  return path.split("/")[0] ?? path;
}

function isAllowed({ from, to }: Import): boolean {
  const room = roomOf(relative("src", from));
  if (roomOf(to) === room) return true;
  return (mayImport[room] ?? []).some(
    (entry) =>
      entry === "*" ||
      entry === to ||
      entry === roomOf(to) ||
      (entry.startsWith("*/") && to.endsWith(entry.slice(1))),
  );
}

describe("architecture", () => {
  test("there are sources, and every one lies in a known room", () => {
    const rooms = new Set(sources.map((file) => roomOf(relative("src", file))));

    expect(sources.length).toBeGreaterThan(20);
    expect([...rooms].filter((room) => !(room in mayImport))).toEqual([]);
  });

  test("rooms import only what the table allows", () => {
    const refused = imports.filter((each) => !isAllowed(each)).map(({ from, to }) => `${from} imports ${to}`);

    expect(refused).toEqual([]);
  });

  test("one driver never imports another", () => {
    const drivers = imports.filter(({ from, to }) => /^src\/vm\/\w+\//.test(from) && /^vm\/\w+\//.test(to));
    const crossings = drivers.filter(
      ({ from, to }) => from.split("/")[2] !== to.split("/")[1] && to.split("/")[1] !== "local",
    );

    expect(crossings).toEqual([]);
  });

  test("nothing reads the environment but the configuration and the executable", () => {
    const readers = sources.filter((file) => readFileSync(join(root, file), "utf8").includes("process.env"));

    expect(readers.filter((file) => !/^src\/(config|cli)\/|^src\/main\.ts$/.test(file))).toEqual([]);
  });

  test("no test replaces a module", () => {
    const tests = globSync(["src/**/*.test.ts", "test/**/*.ts"], { cwd: root });
    const forbidden = ["vi", "mock("].join(".");

    expect(tests.filter((file) => readFileSync(join(root, file), "utf8").includes(forbidden))).toEqual([]);
  });

  test("every file stays small enough to read at one sitting", () => {
    const long = sources.filter((file) => readFileSync(join(root, file), "utf8").split("\n").length > 400);

    expect(long).toEqual([]);
  });
});
