import { globSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { describe, expect, test } from "vitest";

const root = join(import.meta.dirname, "..");

/**
 * Who may import whom. A module may always import itself. An entry names a module, or one file of it (a port, a schema);
 * `*` is every module. The reasons stand in ARCHITECTURE.md.
 */
const mayImport: Record<string, readonly string[]> = {
  base: [],
  domain: ["base"],
  store: ["base", "domain"],
  gitlab: ["base"],
  guest: ["base", "domain"],
  registry: ["base", "domain"],
  image: ["base", "domain", "registry"],
  containers: [
    "base",
    "domain",
    "registry",
    "image/oci/tar.ts",
    "relay/egress/addresses.ts",
    "relay/egress/egress-dialer.ts",
    "relay/egress/egress-policy.ts",
    "relay/mirror/port.ts",
    "relay/errors.ts",
  ],
  cache: ["base", "domain"],
  vm: ["base", "domain"],
  claiming: ["base", "domain", "store", "gitlab"],
  discovery: ["base", "domain", "store", "gitlab"],
  runners: ["base", "domain", "store", "gitlab", "claiming", "discovery"],
  relay: ["base", "domain", "store", "gitlab", "cache"],
  scheduler: ["base", "domain", "store", "gitlab", "guest", "vm/driver.ts"],
  server: ["base", "domain", "views", "store/jobs-by-tag.ts"],
  views: ["base", "domain", "store"],
  operations: [
    "base",
    "cache",
    "domain",
    "config",
    "containers",
    "gitlab",
    "guest",
    "image",
    "registry",
    "relay",
    "discovery",
    "runners",
    "scheduler",
    "server",
    "vm",
    "views",
  ],
  telemetry: ["base", "domain", "views/figures.ts"],
  config: ["base", "domain", "*/config.ts"],
  ci: ["base"],
  cli: [
    "base",
    "domain",
    "config",
    "image",
    "containers",
    "cache",
    "registry/reference.ts",
    "views",
    "operations",
    "gitlab/webhook-signature.ts",
    "telemetry/log.ts",
    "app/app.ts",
    "ci",
    "demo",
  ],
  demo: ["base", "gitlab/payload.ts", "ci", "image"],
  "gitlab-stand-in": ["base", "ci"],
  app: ["*"],
  "main.ts": ["cli"],
};

/**
 * Files outside base/ that use timers of Node's own instead of a Clock, with their reasons. All of them bound what the other end of a
 * real connection does, as the kernel's own time-outs do, and are set for every request.
 */
const ownTimers: Readonly<Record<string, string>> = {
  "src/relay/gateway/admission.ts": "how long one request of a guest may take",
  "src/relay/gateway/dispatcher.ts": "how long a refused guest may go on sending, and wait for its answer",
  "src/relay/egress/egress-dialer.ts": "connecting",
  "src/relay/egress/egress-name-check.ts": "how long a guest's TLS client may say nothing",
  "src/relay/egress/egress-proxy.ts": "socket.setTimeout: an idle tunnel",
  "src/relay/egress/addresses.ts": "name resolution",
  "src/relay/gateway/guest-server.ts": "slow headers, bodies that stop, connections that linger",
  "src/relay/remote/remote-listener.ts": "a slow handshake",
  "src/relay/gateway/exchange.ts": "a body that stops",
  "src/server/network/http-server.ts": "server.setTimeout: an idle connection",
  "src/server/network/private-server.ts": "socket.setTimeout: a connection of a client that may not ask",
  "packages/gitlab-stand-in/src/exchange.ts":
    "lets an answer's last bytes leave before the connection is cut",
  "packages/gitlab-stand-in/src/hooks/hook.ts": "a receiver that does not answer",
  "packages/gitlab-stand-in/src/pipelines.ts": "a test's patience",
};

const ofTime =
  /setTimeout\(|setInterval\(|\bDate\.now\(|\bperformance\.now\(|AbortSignal\.timeout\(|new Date\(\)|setTimeout.*node:timers/;

interface Import {
  readonly from: string;
  readonly to: string;
}

const sources = globSync("{src,packages/*/src}/**/*.ts", { cwd: root }).filter(
  (file) => !file.endsWith(".test.ts") && !file.endsWith(".contract.ts"),
);

const imports: Import[] = sources.flatMap((file) => importsOf(file).map((to) => ({ from: file, to })));

function importsOf(file: string): string[] {
  const text = readFileSync(join(root, file), "utf8");
  const specifiers = [...text.matchAll(/(?:from|import)\s*\(?\s*"(\.{1,2}\/[^"]+)"/g)].map(
    (match) => match[1] ?? "",
  );
  return specifiers.map((specifier) => pathOf(normalize(join(dirname(file), specifier))));
}

/** From `src/`; what lies in a package keeps the name of its folder, as in `gitlab-stand-in/model.ts`. */
function pathOf(file: string): string {
  return file.replace(/^src\//, "").replace(/^packages\/([^/]+)\/src\//, "$1/");
}

function moduleOf(path: string): string {
  return path.split("/")[0] ?? path;
}

function isAllowed({ from, to }: Import): boolean {
  const module = moduleOf(pathOf(from));
  if (moduleOf(to) === module) return true;
  return (mayImport[module] ?? []).some(
    (entry) =>
      entry === "*" ||
      entry === to ||
      entry === moduleOf(to) ||
      (entry.startsWith("*/") && to.endsWith(entry.slice(1))),
  );
}

describe("architecture", () => {
  test("there are sources, and every one lies in a known module", () => {
    const modules = new Set(sources.map((file) => moduleOf(pathOf(file))));

    expect(sources.length).toBeGreaterThan(20);
    expect([...modules].filter((module) => !(module in mayImport))).toEqual([]);
  });

  test("modules import only what the table allows", () => {
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

  test("nothing but vm/ and the table of drivers knows a driver by its name", () => {
    const named = sources.filter(
      (file) =>
        !/^src\/(vm\/|domain\/drivers\.ts$)/.test(file) &&
        /"(?:qemu|flintlock|fake)"|10\.0\.2\.100/.test(readFileSync(join(root, file), "utf8")),
    );

    expect(named).toEqual([]);
  });

  test("nothing reads the environment but the configuration and the executable", () => {
    const readers = sources.filter((file) => readFileSync(join(root, file), "utf8").includes("process.env"));

    expect(readers.filter((file) => !/^src\/(config|cli)\/|^src\/main\.ts$/.test(file))).toEqual([]);
  });

  test("time comes from a Clock", () => {
    const users = sources
      .filter((file) => !file.startsWith("src/base/"))
      .filter((file) => ofTime.test(readFileSync(join(root, file), "utf8")));

    expect(users.toSorted()).toEqual(Object.keys(ownTimers).toSorted());
  });

  test("no test replaces a module", () => {
    const tests = globSync(["{src,packages}/**/*.test.ts", "test/**/*.ts"], { cwd: root });
    const forbidden = ["vi", "mock("].join(".");

    expect(tests.filter((file) => readFileSync(join(root, file), "utf8").includes(forbidden))).toEqual([]);
  });

  test("every file stays small enough to read at one sitting", () => {
    const long = sources.filter((file) => readFileSync(join(root, file), "utf8").split("\n").length > 400);

    expect(long).toEqual([]);
  });
});
